"""NaN and infinity in stored numbers, told by their bits: any float type, any byte order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ckptool.format.dtypes import DType


class _Bits(NamedTuple):
    """How a float type spells what is not finite: all bits of `exponent` are set.

    It is infinite if then no bit of `mantissa` is set. In types without infinities
    `mantissa` is 0 and `exponent` all but the sign, or `nan` is the only such pattern.
    """

    width: int
    exponent: int
    mantissa: int = 0
    nan: int | None = None


# Sources: IEEE 754; arXiv 2209.05433 (e5m2, e4m3fn), arXiv 2206.02915 (the fnuz types).
_FLOATS = {
    DType.float64: _Bits(8, 0x7FF0_0000_0000_0000, 0x000F_FFFF_FFFF_FFFF),
    DType.float32: _Bits(4, 0x7F80_0000, 0x007F_FFFF),
    DType.complex128: _Bits(8, 0x7FF0_0000_0000_0000, 0x000F_FFFF_FFFF_FFFF),
    DType.complex64: _Bits(4, 0x7F80_0000, 0x007F_FFFF),
    DType.float16: _Bits(2, 0x7C00, 0x03FF),
    DType.bfloat16: _Bits(2, 0x7F80, 0x007F),
    DType.float8_e5m2: _Bits(1, 0x7C, 0x03),
    DType.float8_e4m3fn: _Bits(1, 0x7F),
    DType.float8_e4m3fnuz: _Bits(1, 0, nan=0x80),
    DType.float8_e4m3b11fnuz: _Bits(1, 0, nan=0x80),
    DType.float8_e5m2fnuz: _Bits(1, 0, nan=0x80),
}


def count_non_finite(data: memoryview, dtype: DType, *, big_endian: bool) -> tuple[int, int, int]:
    """(NaNs, infinities, index of the first element that is either or -1) in whole stored elements.

    Of complex numbers each half counts by itself; the index is the element's.
    """
    bits = _FLOATS.get(dtype)
    if bits is None:
        return 0, 0, -1
    order = ">" if big_endian else "<"
    words = np.frombuffer(data, f"{order}u{bits.width}")
    if bits.nan is not None:
        odd = words == bits.nan
    else:
        odd = (words & bits.exponent) == bits.exponent
    if not odd.any():
        return 0, 0, -1
    total = int(np.count_nonzero(odd))
    infinite = 0
    if bits.mantissa:
        infinite = int(np.count_nonzero((words[odd] & bits.mantissa) == 0))
    halves = dtype.size // bits.width
    return total - infinite, infinite, int(odd.argmax()) // halves
