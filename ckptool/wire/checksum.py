"""CRC-32C (Castagnoli), and the mask under which LevelDB and TensorFlow store it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from collections.abc import Callable
from typing import cast

_MASK_DELTA = 0xA282EAD8  # LevelDB util/crc32c.h


def _load() -> Callable[..., int]:
    # The package's __init__ asks importlib.metadata for its own version, which costs more
    # than a whole `ckptool ls`; its compiled module by itself is all that is needed.
    package = importlib.util.find_spec("crc32c")
    if package is not None and package.submodule_search_locations:
        spec = importlib.machinery.PathFinder.find_spec("_crc32c", list(package.submodule_search_locations))
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return cast("Callable[..., int]", module.crc32c)
    from crc32c import crc32c

    return crc32c


crc32c: Callable[..., int] = _load()
"""crc32c(data, value=0): the checksum of `data`, or that of what `value` covers followed by `data`."""


def mask(crc: int) -> int:
    """The form in which a checksum is stored, so that a CRC over data with CRCs in it stays useful."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFF_FFFF


def unmask(masked: int) -> int:
    """The inverse of `mask`."""
    rotated = (masked - _MASK_DELTA) & 0xFFFF_FFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFF_FFFF
