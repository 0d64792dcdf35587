"""Tables and bundle indexes made by hand, right or wrong in any way a test wants."""

from __future__ import annotations

from collections.abc import Sequence

from ckptool.format.bundle import BundleEntry, BundleHeader
from ckptool.format.dtypes import DType
from ckptool.format.slices import TensorSlice
from ckptool.format.sstable import BlockHandle, Footer
from ckptool.wire.checksum import crc32c, mask
from ckptool.wire.varint import encode_varint


def block(entries: dict[bytes, bytes]) -> bytes:
    """A block of entries that share nothing, with one restart point."""
    out = b"".join(
        b"\0" + encode_varint(len(key)) + encode_varint(len(value)) + key + value
        for key, value in entries.items()
    )
    return out + bytes(4) + (1).to_bytes(4, "little")


def stored(contents: bytes, kind: int = 0) -> bytes:
    """A block with its trailer."""
    trailer = bytes((kind,))
    return contents + trailer + mask(crc32c(contents + trailer)).to_bytes(4, "little")


def table(
    entries: dict[bytes, bytes], *, block: bytes | None = None, compressed: bytes | None = None
) -> bytes:
    """A table of one data block: of `entries`, with the contents `block`, or with `compressed` as stored."""
    contents = compressed if compressed is not None else block if block is not None else _block(entries)
    data = stored(contents, 1 if compressed is not None else 0)
    metaindex = stored(_block({}))
    index = _block({b"\xff": BlockHandle(0, len(contents)).encode()})
    places = BlockHandle(len(data), len(metaindex) - 5), BlockHandle(len(data) + len(metaindex), len(index))
    return data + metaindex + stored(index) + Footer(*places).encode()


_block = block


def bundle_index(entries: dict[bytes, bytes], shards: int = 1) -> bytes:
    """The index of a bundle with these (serialized) entries."""
    return table({b"": BundleHeader(shards).encode(), **dict(sorted(entries.items()))})


def entry(
    dtype: int = 1,
    shape: Sequence[int] = (),
    shard_id: int = 0,
    offset: int = 0,
    size: int = 0,
    crc: int | None = None,
    slices: Sequence[TensorSlice] = (),
) -> bytes:
    """A serialized entry; its checksum is that of `size` zero bytes unless given."""
    right = mask(crc32c(bytes(size))) if crc is None and 0 <= size < 1 << 20 else mask(crc or 0)
    return BundleEntry(
        DType(dtype), tuple(shape), shard_id, offset, size, 0 if slices else right, tuple(slices)
    ).encode()
