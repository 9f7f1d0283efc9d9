"""Versions and devices, as environment.json and ``contrastkit info`` show them."""

import platform
import sys
import time
from typing import Any

from contrastkit.directories import current_folder
from contrastkit.version import __version__


def environment() -> dict[str, Any]:
    """Those of this process, with its command and the folder in which that was called."""
    import torch
    import torchvision

    from contrastkit.ops import extension

    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "folder": current_folder(),
        "contrastkit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"],
        "kernels": extension.info(),
    }
