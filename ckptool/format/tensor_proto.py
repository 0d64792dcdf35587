"""The value fields of a TensorProto, as V1 files hold tensors: one repeated field per kind of type.

Source: tensorflow/core/framework/tensor.proto.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ckptool.errors import CorruptionError
from ckptool.format.arrays import SUB_BYTE_BITS, Array, decode_numbers, numpy_dtype
from ckptool.format.dtypes import DType
from ckptool.format.value_fields import ValueField, value_field
from ckptool.wire.message import FIXED32, LENGTH, VARINT, iter_fields, iter_messages
from ckptool.wire.varint import MAX_VARINT64_SIZE

_CHUNK = 1 << 20  # bytes of varints decoded at once


def decode_values(buf: bytes | memoryview, dtype: DType) -> Array:
    """All values of type `dtype` in a serialized TensorProto, one-dimensional; strings as objects.

    Elements may be packed or not, in any mixture. Integers outside the type wrap around,
    as in TensorFlow. UnsupportedError for a type that V1 files cannot hold,
    CorruptionError if `buf` is no such message. How many there should be is the caller's
    to know.
    """
    return decode_field(buf, dtype, value_field(dtype))


def decode_field(buf: bytes | memoryview, dtype: DType, field: ValueField) -> Array:
    """As `decode_values`, from a given field."""
    if field.wire_type == LENGTH:
        strings = [bytes(value) for number, value in iter_messages(buf) if number == field.number]
        out = np.empty(len(strings), object)
        out[:] = strings
        return out
    return _as_dtype(_raw_values(buf, field), dtype)


def count_outside(buf: bytes | memoryview, dtype: DType, lowest: int, highest: int) -> int:
    """How many of the integers that stand for values are not within the limits; raises as `decode_values`."""
    raw = _raw_values(buf, value_field(dtype))
    return int(np.count_nonzero((raw < lowest) | (raw > highest)))


def _raw_values(buf: bytes | memoryview, field: ValueField) -> Array:
    """All elements of a field, as the numpy type `field.stored`."""
    parts: list[Array] = []
    loose: list[int] = []
    for number, wire_type, value in iter_fields(buf):
        if number != field.number:
            continue
        if wire_type == field.wire_type and isinstance(value, int):
            loose.append(value)
        elif not isinstance(value, int):
            parts += _from_loose(loose, field), _from_packed(value, field)
            loose = []
    parts.append(_from_loose(loose, field))
    return np.concatenate(parts)


def _from_packed(value: bytes | memoryview, field: ValueField) -> Array:
    if field.wire_type == VARINT:
        return _decode_varints(np.frombuffer(value, np.uint8), field.stored)
    item = 4 if field.wire_type == FIXED32 else 8
    if len(value) % item:
        raise CorruptionError(f"packed field of {len(value)} bytes, no multiple of {item}")
    return np.frombuffer(value, field.stored)


def _from_loose(values: list[int], field: ValueField) -> Array:
    if field.wire_type == VARINT:
        return np.array(values, np.uint64).astype(field.stored)
    return np.array(values, np.uint32 if field.wire_type == FIXED32 else np.uint64).view(field.stored)


def _decode_varints(stored: Array, target: str) -> Array:
    """Every varint in `stored` (uint8) as numpy type `target`; much at once, but in bounded memory."""
    out = np.empty(int(np.count_nonzero(stored < 0x80)), target)
    position = done = 0
    while position < len(stored):
        chunk = stored[position : position + _CHUNK]
        if position + _CHUNK < len(stored):
            ends = np.flatnonzero(chunk[-MAX_VARINT64_SIZE:] < 0x80)
            if not len(ends):
                raise CorruptionError("overlong varint in a packed field")
            chunk = chunk[: len(chunk) - MAX_VARINT64_SIZE + int(ends[-1]) + 1]
        values = _decode_chunk(chunk)
        out[done : done + len(values)] = values.astype(target)
        position, done = position + len(chunk), done + len(values)
    return out


def _decode_chunk(stored: Array) -> Array:
    """Whole varints as uint64, all at once: byte k of each contributes its 7 bits."""
    ends = np.flatnonzero(stored < 0x80)
    if len(stored) and (not len(ends) or ends[-1] != len(stored) - 1):
        raise CorruptionError("truncated varint in a packed field")
    starts = np.empty_like(ends)
    starts[:1] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > MAX_VARINT64_SIZE:
        raise CorruptionError("overlong varint in a packed field")
    values = np.zeros(len(ends), np.uint64)
    for k in range(longest):
        has_byte = lengths > k
        values[has_byte] |= (stored[starts[has_byte] + k].astype(np.uint64) & np.uint64(0x7F)) << np.uint64(
            7 * k
        )
    return values


def _as_dtype(values: Array, dtype: DType) -> Array:
    target: np.dtype[Any] = numpy_dtype(dtype)
    if dtype in (DType.complex64, DType.complex128):
        if len(values) % 2:
            raise CorruptionError("a complex number lacks its imaginary part")
        return values.view(target)
    if dtype in (DType.float16, DType.bfloat16):
        return values.astype(np.uint16).view(target)
    if dtype in SUB_BYTE_BITS:
        # TensorFlow keeps the low bits, as it does of bytes in a shard.
        return decode_numbers(values.astype(np.uint8).reshape(-1, 1), dtype, big_endian=False)
    if dtype == DType.bool:
        return np.not_equal(values, 0)
    return values.astype(target, copy=False)
