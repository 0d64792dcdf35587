"""String and variant tensors: elements of different length, with checksums over the lengths.

Source: WriteStringTensor, ReadStringTensor and ReadVariantTensor in
tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

from typing import Literal

from ckptool.errors import CorruptionError
from ckptool.wire.checksum import crc32c, mask
from ckptool.wire.varint import encode_varint, read_varint, take

_Order = Literal["little", "big"]

_MAX_32 = 0xFFFF_FFFF


def decode_strings(data: bytes, count: int, *, big_endian: bool) -> tuple[list[bytes], int]:
    """The `count` elements of a string tensor, and the CRC-32C (unmasked) that its entry should hold.

    Layout: each length as a varint, a checksum of the lengths, the bytes of all elements.
    CorruptionError when the lengths do not fit into `data` or do not match their
    checksum. The checksum covers lengths as fixed-width integers, not their varints.
    """
    if not data and not count:
        return [], 0
    order: _Order = "big" if big_endian else "little"
    if len(data) < count + 4:
        raise CorruptionError(f"{count} strings take more than the {len(data)} bytes stored")
    lengths, pos, crc = [], 0, 0
    for _ in range(count):
        length, pos = read_varint(data, pos, len(data))
        lengths.append(length)
        crc = crc32c(_fixed_width(length, order), crc)
    stored = take(data, pos, 4)
    pos += 4
    if int.from_bytes(stored, order) != mask(crc):
        raise CorruptionError("the checksum of the string lengths does not match")
    if sum(lengths) > len(data) - pos:
        raise CorruptionError(f"strings of {sum(lengths)} bytes where {len(data) - pos} are left")
    crc = crc32c(stored, crc)
    elements = []
    for length in lengths:
        elements.append(data[pos : pos + length])
        pos += length
    # Readers trust the lengths; bytes that follow the last string belong to nobody.
    return elements, crc32c(memoryview(data)[pos - sum(lengths) : pos], crc)


def encode_strings(elements: list[bytes], *, big_endian: bool = False) -> tuple[bytes, int]:
    """The stored bytes of a string tensor, and the CRC-32C (unmasked) of its entry."""
    order: _Order = "big" if big_endian else "little"
    crc = 0
    for element in elements:
        crc = crc32c(_fixed_width(len(element), order), crc)
    check = mask(crc).to_bytes(4, order)
    body = b"".join(elements)
    head = b"".join(encode_varint(len(element)) for element in elements)
    return head + check + body, crc32c(body, crc32c(check, crc))


def decode_variants(data: bytes, count: int, *, big_endian: bool) -> tuple[list[bytes], int]:
    """The serialized VariantTensorDataProto of each element, and the CRC-32C (unmasked) of the entry.

    CorruptionError when an element does not fit into `data` or fails its own checksum.
    """
    order: _Order = "big" if big_endian else "little"
    elements, pos, crc = [], 0, 0
    for _ in range(count):
        length, pos = read_varint(data, pos, len(data))
        element = take(data, pos, length)
        stored = take(data, pos + length, 4)
        pos += length + 4
        crc = crc32c(element, crc32c(length.to_bytes(8, order), crc))
        if int.from_bytes(stored, order) != mask(crc):
            raise CorruptionError("the checksum of a variant does not match")
        crc = crc32c(stored, crc)
        elements.append(element)
    return elements, crc


def _fixed_width(length: int, order: _Order) -> bytes:
    return length.to_bytes(4 if length <= _MAX_32 else 8, order)
