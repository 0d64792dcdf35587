"""Copying tensors from the shards of one checkpoint into those of another, checked on the way."""

from __future__ import annotations

from collections.abc import Iterator

from ckptool.errors import CorruptionError
from ckptool.format.bundle import Bundle, BundleEntry
from ckptool.format.bundle_write import ShardWriter
from ckptool.format.dtypes import DType
from ckptool.format.shape import element_count
from ckptool.format.strings import decode_strings, decode_variants
from ckptool.model.staging import Advance

_CHUNK = 1 << 20


class TensorCopier:
    """Copies tensors of `bundle`, comparing each with its checksum; bytes that several share, once.

    Numbers go through in pieces; string and variant tensors are in memory whole, because
    their checksums cover more than their bytes.
    """

    def __init__(self, bundle: Bundle, advance: Advance) -> None:
        self._bundle = bundle
        self._advance = advance
        self._copied: dict[tuple[int, int, int, int], BundleEntry] = {}
        self._taken: dict[int, int] = {}

    def copy(self, key: bytes, entry: BundleEntry, shard: ShardWriter) -> BundleEntry:
        """The entry of the copy.

        CorruptionError if the tensor does not match its checksum, or its bytes overlap
        with others'; NotFoundError if its shard is missing.
        """
        place = entry.shard_id, entry.offset, entry.size, entry.crc32c
        known = self._copied.get(place)
        if known is None or not entry.size:
            file = self._bundle.data(key, entry)
            # Without overlaps, no shard gives more than it has, whatever its index claims.
            taken = self._taken[entry.shard_id] = self._taken.get(entry.shard_id, 0) + entry.size
            if taken > file.size:
                raise self._bundle.data_fault(key, entry, "its bytes overlap with those of others")
            known = self._copied[place] = self._copy(key, entry, shard)
        return entry._replace(shard_id=known.shard_id, offset=known.offset)

    def _copy(self, key: bytes, entry: BundleEntry, shard: ShardWriter) -> BundleEntry:
        if entry.dtype in (DType.string, DType.variant):
            data, crc = self._read_opaque(key, entry)
            copy = shard.append(entry.dtype, entry.shape, [data], crc)
            self._advance(entry.size)
        else:
            copy = shard.append(entry.dtype, entry.shape, self._chunks(key, entry))
        if copy.crc32c != entry.crc32c:
            stored, computed = entry.checksum, copy.checksum
            fault = f"the checksum does not match: stored {stored:08x}, computed {computed:08x}"
            raise self._bundle.data_fault(key, entry, fault)
        return copy

    def _chunks(self, key: bytes, entry: BundleEntry) -> Iterator[bytes]:
        file = self._bundle.data(key, entry)
        for at in range(0, entry.size, _CHUNK):
            chunk = file.read(entry.offset + at, min(_CHUNK, entry.size - at))
            yield chunk
            self._advance(len(chunk))

    def _read_opaque(self, key: bytes, entry: BundleEntry) -> tuple[bytes, int]:
        file = self._bundle.data(key, entry)
        data = file.read(entry.offset if entry.size else 0, entry.size)
        decode = decode_strings if entry.dtype == DType.string else decode_variants
        big_endian = self._bundle.endianness == "big"
        try:
            return data, decode(data, element_count(entry.shape), big_endian=big_endian)[1]
        except CorruptionError as exc:
            raise self._bundle.data_fault(key, entry, exc.fault) from exc
