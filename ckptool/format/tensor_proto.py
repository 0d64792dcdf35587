"""The values of a TensorProto, as V1 files and the constants of graphs hold tensors.

There is one repeated field per kind of type. Source: tensorflow/core/framework/tensor.proto;
tensorflow/core/util/saved_tensor_slice_util.h for which field V1 uses for which type;
Tensor::FromProto in tensorflow/core/framework/tensor.cc for the rules of constants.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ckptool.errors import CorruptionError, UnsupportedError
from ckptool.format.arrays import SUB_BYTE_BITS, Array, check_numpy, decode_numbers, numpy_dtype
from ckptool.format.dtypes import DType
from ckptool.format.shape import Shape, check_shape, element_count
from ckptool.wire.message import FIXED32, FIXED64, LENGTH, VARINT, iter_fields, iter_messages
from ckptool.wire.varint import MAX_VARINT64_SIZE


class _Field(NamedTuple):
    number: int
    wire_type: int  # of one unpacked element
    stored: (
        str  # numpy type of an element of a packed fixed-width field, or of the integer a varint stands for
    )


_FLOAT, _DOUBLE = _Field(5, FIXED32, "<f4"), _Field(6, FIXED64, "<f8")
_INT, _INT64 = _Field(7, VARINT, "<i4"), _Field(10, VARINT, "<i8")
_STRING = _Field(8, LENGTH, "")
_HALF = _Field(13, VARINT, "<i4")

_FIELDS = {
    DType.float32: _FLOAT,
    DType.float64: _DOUBLE,
    DType.int32: _INT,
    DType.uint8: _INT,
    DType.int16: _INT,
    DType.int8: _INT,
    DType.qint8: _INT,
    DType.quint8: _INT,
    DType.qint32: _INT,
    DType.uint16: _INT,
    DType.int64: _INT64,
    DType.bool: _Field(11, VARINT, "<i8"),
    DType.complex64: _Field(9, FIXED32, "<f4"),
    DType.complex128: _Field(12, FIXED64, "<f8"),
    DType.float16: _HALF,
    DType.string: _STRING,
}

# What constants may hold besides. float8 is one bytes field, an element a byte.
_CONSTANT_FIELDS = {
    **_FIELDS,
    DType.bfloat16: _HALF,
    DType.qint16: _INT,
    DType.quint16: _INT,
    DType.int4: _INT,
    DType.uint4: _INT,
    DType.int2: _INT,
    DType.uint2: _INT,
    DType.uint32: _Field(16, VARINT, "<u4"),
    DType.uint64: _Field(17, VARINT, "<u8"),
}
_CONTENT, _FLOAT8 = 4, 18  # tensor_content, float8_val

_MAX_SPREAD = 1 << 20  # elements; of a tensor that stores fewer values than it has elements


def decode_values(buf: bytes | memoryview, dtype: DType) -> Array:
    """All values of type `dtype` in a serialized TensorProto, one-dimensional; strings as objects.

    Elements may be packed or not, in any mixture. Integers outside the type wrap around,
    as in TensorFlow. UnsupportedError for a type that V1 files cannot hold,
    CorruptionError if `buf` is no such message. How many there should be is the caller's
    to know.
    """
    field = _FIELDS.get(dtype)
    if field is None:
        raise UnsupportedError(f"V1 checkpoints cannot hold tensors of type {dtype}")
    return _decode_field(buf, dtype, field)


def decode_constant(buf: bytes | memoryview, dtype: DType, shape: Shape) -> Array:
    """The tensor that a serialized TensorProto of this type and shape is, as graphs store constants.

    Values are packed in `tensor_content` or listed in the field of the type; where fewer
    are listed than there are elements, the last one stands for the rest, and none at all
    for zeros or empty strings. A tensor of one value is a read-only view of it, whatever
    its size.

    Raises:
        CorruptionError: `buf` is no such message, or the values do not fit the shape.
        UnsupportedError: a type without values here (resources, variants), or a large
            tensor that lists more than one value and fewer than it has elements.
    """
    if dtype == DType.variant:
        raise UnsupportedError("variants have no values that can be shown")
    check_shape(shape)
    check_numpy(shape, numpy_dtype(dtype).itemsize)
    count = element_count(shape)
    content = {number: value for number, value in iter_messages(buf) if number in (_CONTENT, _FLOAT8)}
    packed = content.get(_CONTENT) or (content.get(_FLOAT8) if dtype not in _CONSTANT_FIELDS else None)
    if packed:
        values = _from_content(packed, dtype)
    elif dtype in _CONSTANT_FIELDS:
        values = _decode_field(buf, dtype, _CONSTANT_FIELDS[dtype])
    else:
        values = np.zeros(0, numpy_dtype(dtype))
    if len(values) > count or (len(values) < count and _CONTENT in content and packed):
        raise CorruptionError(f"{len(values)} values for {count} elements")
    return _spread(values, dtype, count).reshape(shape) if len(values) > 1 else _fill(values, dtype, shape)


def _from_content(packed: bytes | memoryview, dtype: DType) -> Array:
    if not dtype.size:
        raise UnsupportedError(f"packed values of type {dtype} are not read")
    if len(packed) % dtype.size:
        raise CorruptionError(f"{len(packed)} bytes of values, no multiple of {dtype.size}")
    stored = np.frombuffer(packed, np.uint8).reshape(-1, dtype.size).copy()
    return decode_numbers(stored, dtype, big_endian=False)


def _fill(values: Array, dtype: DType, shape: Shape) -> Array:
    """At most one value, in every element of an array that takes no more memory than it."""
    one = (
        values
        if len(values)
        else np.array([b""] if dtype == DType.string else [0]).astype(numpy_dtype(dtype))
    )
    return np.broadcast_to(one.reshape(()), shape)


def _spread(values: Array, dtype: DType, count: int) -> Array:
    """`values` and then the last of them again up to `count`."""
    if len(values) == count:
        return values
    if count > _MAX_SPREAD:
        raise UnsupportedError(f"{count} elements from {len(values)} values are not spelled out")
    return np.concatenate([values, np.repeat(values[-1:], count - len(values))])


def _decode_field(buf: bytes | memoryview, dtype: DType, field: _Field) -> Array:
    if field is _STRING:
        strings = [bytes(value) for number, value in iter_messages(buf) if number == field.number]
        out = np.empty(len(strings), object)
        out[:] = strings
        return out
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
    return _as_dtype(np.concatenate(parts), dtype)


def _from_packed(value: bytes | memoryview, field: _Field) -> Array:
    if field.wire_type == VARINT:
        return _decode_varints(np.frombuffer(value, np.uint8)).astype(field.stored)
    item = 4 if field.wire_type == FIXED32 else 8
    if len(value) % item:
        raise CorruptionError(f"packed field of {len(value)} bytes, no multiple of {item}")
    return np.frombuffer(value, field.stored)


def _from_loose(values: list[int], field: _Field) -> Array:
    if field.wire_type == VARINT:
        return np.array(values, np.uint64).astype(field.stored)
    return np.array(values, np.uint32 if field.wire_type == FIXED32 else np.uint64).view(field.stored)


def _decode_varints(stored: Array) -> Array:
    """Every varint in `stored` (uint8) as uint64, all at once: byte k of each contributes its 7 bits."""
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
