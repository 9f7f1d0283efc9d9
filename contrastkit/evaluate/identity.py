"""Which image is which, whatever the order of a set: what draws images, and what weights in a file are matched by."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from contrastkit.data import Source
from contrastkit.data.source import digest


def identities(source: Source) -> list[bytes]:
    """Of each image its path within the set; of an image in memory, its pixels; of another, its position."""
    if source.paths:
        return [path.encode("utf-8", "surrogateescape") for path in source.paths]
    if source.images is not None:
        return [bytes(str(tuple(image.shape)), "ascii") + image.numpy().tobytes() for image in source.images]
    return [str(i).encode() for i in range(len(source))]  # a user's dataset: nothing else names its images


def image_ids(source: Source) -> NDArray[np.str_]:
    """Different texts [N] by which a table names the images: paths; a digest of pixels, the copies of an image
    numbered from 2; or "#" and a position. Bytes of paths that are no text are escaped."""
    known = identities(source)
    if source.paths:
        return np.array([path.decode("utf-8", "backslashreplace") for path in known], dtype=str)
    if source.images is None:
        return np.array([f"#{position.decode()}" for position in known], dtype=str)
    names, often = list[str](), Counter[str]()
    for name in (f"x{digest(pixels)}" for pixels in known):  # a digest of figures alone would be read as a number
        often[name] += 1
        names.append(name if often[name] == 1 else f"{name}-{often[name]}")
    return np.array(names, dtype=str)
