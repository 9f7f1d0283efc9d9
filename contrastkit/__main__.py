"""``python -m contrastkit`` and ``torchrun -m contrastkit``: the command line."""

import sys

from contrastkit.cli.main import main

sys.exit(main())
