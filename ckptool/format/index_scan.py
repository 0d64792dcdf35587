"""Entries of a V2 index in the form in which TensorFlow writes them: the fast path of listings.

Elsewhere an index is parsed field by field, in any form that protobuf allows
(`sstable.iter_block`, `bundle.decode_entry`). For a million tensors most of the time
would go into calls, and into heads that are all alike. So these loops know the bytes of
the one common form, and leave every other to the general way.
"""

from __future__ import annotations

from ckptool.errors import CorruptionError
from ckptool.format.dtypes import DType
from ckptool.format.shape import Shape, decode_shape
from ckptool.format.sstable import restart_array

Head = tuple[DType, Shape]

# Fields of BundleEntryProto: dtype 1, shape 2, shard_id 3, offset 4, size 5, crc32c 6.
_DTYPE_TAG, _SHAPE_TAG = 0x08, 0x12
_NUMBER_TAGS = (0x18, 0x20, 0x28)
_CHECKSUM_TAG = 0x35

# Numbers of up to 2^56: longer varints may be negative, and are left to the general way.
_MAX_SHIFT = 49


def scan_heads(block: bytes, known: dict[bytes, Head | None]) -> tuple[list[bytes], list[Head]] | None:
    """The keys of a block and the dtype and shape of each; None if an entry has an uncommon form.

    The header, under the empty key, is left out. `known` remembers heads by their bytes
    from one block to the next: checkpoints have few distinct ones.
    """
    end, _ = restart_array(block)
    keys: list[bytes] = []
    heads: list[Head] = []
    add_key, add_head = keys.append, heads.append
    pos, key = 0, b""
    while pos + 3 < end:
        shared, unshared, size = block[pos], block[pos + 1], block[pos + 2]
        key_at = pos + 3
        value_at = key_at + unshared
        pos = value_at + size
        if (shared | unshared | size) >= 0x80 or shared > len(key) or pos > end:
            return None
        key = key[:shared] + block[key_at:value_at]
        if not key:
            continue
        # A head is the dtype (tag, number) and the shape (tag, length, dimensions).
        stored = block[value_at : value_at + 4 + block[value_at + 3]]
        try:
            head = known[stored]
        except KeyError:
            head = known[stored] = _decode_head(stored)
        if head is None or len(stored) > size:
            return None
        add_key(key)
        add_head(head)
    return (keys, heads) if pos == end else None


def scan_entry(
    value: bytes, known: dict[bytes, Head | None]
) -> tuple[DType, Shape, int, int, int, int] | None:
    """(dtype, shape, shard, offset, size, masked checksum) of one entry; None if it has an uncommon form.

    Those of partitioned tensors are uncommon too. `known` is that of `scan_heads`.
    """
    end = len(value)
    if end < 4:
        return None
    stored = value[: 4 + value[3]]
    if stored not in known:
        known[stored] = _decode_head(stored)
    head = known[stored]
    if head is None:
        return None
    pos = len(stored)
    numbers = [0, 0, 0]
    for field, tag in enumerate(_NUMBER_TAGS):
        if pos < end and value[pos] == tag:
            shift = 0
            while True:
                pos += 1
                if pos == end or shift > _MAX_SHIFT:
                    return None
                byte = value[pos]
                numbers[field] |= (byte & 0x7F) << shift
                if byte < 0x80:
                    pos += 1
                    break
                shift += 7
    if end - pos != 5 or value[pos] != _CHECKSUM_TAG:
        return None
    shard, offset, size = numbers
    return head[0], head[1], shard, offset, size, int.from_bytes(value[pos + 1 :], "little")


def _decode_head(stored: bytes) -> Head | None:
    common = stored[0] == _DTYPE_TAG and stored[2] == _SHAPE_TAG and (stored[1] | stored[3]) < 0x80
    if not common or len(stored) != 4 + stored[3]:
        return None
    try:
        return DType(stored[1]), decode_shape(stored[4:])
    except CorruptionError:
        return None
