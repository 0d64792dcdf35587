"""TensorShapeProto: the shape of a tensor as a tuple of ints.

Source: tensorflow/core/framework/tensor_shape.proto.
"""

from __future__ import annotations

import math

from ckptool.errors import CorruptionError
from ckptool.wire.message import VARINT, as_int64, iter_fields, iter_messages, length_field, varint_field

Shape = tuple[int, ...]

MAX_RANK = 254  # TensorShape::MaxDimensions, tensorflow/core/framework/tensor_shape.h
MAX_ELEMENTS = 2**63 - 1


def decode_shape(buf: bytes | memoryview) -> Shape:
    """The dimensions, as stored: `check_shape` says whether a tensor can have them.

    Dimension names and `unknown_rank` are ignored, as TensorFlow's readers do.
    """
    dims = []
    for number, value in iter_messages(buf):
        if number == 2:
            size = 0
            for inner, inner_type, inner_value in iter_fields(value):
                if inner == 1 and inner_type == VARINT:
                    size = as_int64(inner_value)
            dims.append(size)
    return tuple(dims)


def encode_shape(shape: Shape) -> bytes:
    """As TensorFlow writes it: a dimension of size 0 is an empty message."""
    return b"".join(length_field(2, varint_field(1, size)) for size in shape)


def check_shape(shape: Shape) -> None:
    """CorruptionError unless a tensor can have this shape: dimensions, rank and element count in range."""
    if any(size < 0 for size in shape):
        raise CorruptionError(f"invalid shape {format_shape(shape)}: negative dimension")
    if len(shape) > MAX_RANK:
        raise CorruptionError(f"invalid shape: rank {len(shape)} is more than {MAX_RANK}")
    # TensorFlow multiplies from the left and stops at the first overflow, even before a later 0.
    count = 1
    for size in shape:
        count *= size
        if count > MAX_ELEMENTS:
            raise CorruptionError(f"invalid shape {format_shape(shape)}: too many elements")


def element_count(shape: Shape) -> int:
    """How many elements a tensor of this shape has; 1 for a scalar."""
    return math.prod(shape)


def format_shape(shape: Shape) -> str:
    """`[784,200]`, as TensorFlow prints it; `[]` for a scalar."""
    return f"[{','.join(map(str, shape))}]"
