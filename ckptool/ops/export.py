"""Arrays as the bytes of other file formats: .npy, and the plain bytes of the elements."""

from __future__ import annotations

import io

import numpy as np

from ckptool.errors import RequestError
from ckptool.format.arrays import Array, stored_bytes
from ckptool.format.dtypes import DType

# What .npy has no type for, as the smallest of its types that holds every value.
_NPY_SUBSTITUTES = {
    DType.bfloat16: "float32",
    DType.float8_e5m2: "float32",
    DType.float8_e4m3fn: "float32",
    DType.float8_e4m3fnuz: "float32",
    DType.float8_e4m3b11fnuz: "float32",
    DType.float8_e5m2fnuz: "float32",
    DType.float4_e2m1fn: "float32",
    DType.int4: "int8",
    DType.int2: "int8",
    DType.uint4: "uint8",
    DType.uint2: "uint8",
}


def npy_array(name: str, dtype: DType, values: Array) -> Array:
    """`values` in a type that .npy can hold, without loss; RequestError for strings and variants."""
    if values.dtype == object:
        raise RequestError(
            f"{name} is a {dtype} tensor, which .npy cannot hold", remedy="show it as text, or with --json"
        )
    substitute = _NPY_SUBSTITUTES.get(dtype)
    return values if substitute is None else values.astype(substitute)


def npy_substitute(dtype: DType) -> str | None:
    """The type that stands for `dtype` in .npy files, None if it has its own."""
    return _NPY_SUBSTITUTES.get(dtype)


def npy_bytes(name: str, dtype: DType, values: Array) -> bytes:
    """A whole .npy file; see `npy_array`."""
    buffer = io.BytesIO()
    np.save(buffer, npy_array(name, dtype, values), allow_pickle=False)
    return buffer.getvalue()


def raw_bytes(name: str, dtype: DType, values: Array) -> bytes:
    """The elements one after the other as V2 shards hold them, little-endian; of a scalar string its bytes.

    RequestError for several strings: nothing would tell where one ends.
    """
    if values.dtype != object:
        return bytes(stored_bytes(values))
    if values.ndim:
        raise RequestError(
            f"{name} holds several elements of type {dtype}, whose bytes alone cannot be told apart"
        )
    return bytes(values[()])
