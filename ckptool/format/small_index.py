"""The index of a small V2 checkpoint as TensorFlow writes it: the fast path for directories full of them.

Whether a checkpoint is complete is a question of how long its shards have to be, and a
prune asks it of every checkpoint of a run. `Bundle` answers for any index, block by
block; here the whole file is one piece of bytes of which one form is known, and every
other is left to `Bundle`.
"""

from __future__ import annotations

from ckptool.errors import CorruptionError
from ckptool.format.index_scan import Head, scan_entry
from ckptool.format.sstable import BLOCK_TRAILER_SIZE, FOOTER_SIZE, MAGIC_BYTES, RAW, restart_array
from ckptool.wire.checksum import crc32c, mask
from ckptool.wire.varint import read_varint

Place = tuple[int, int]
"""The shard in which a tensor lies, and where its bytes end there: at 0 if it has none."""

# The first entry, under the empty key: sizes of the key's parts and of the value; a BundleHeaderProto
# of num_shards (one byte), little-endian, version { producer: 1 }.
_BEFORE_SHARDS, _AFTER_SHARDS = b"\x00\x00\x06\x08", b"\x1a\x02\x08\x01"
_SHARDS_AT, _HEADER_END = 4, 9
_MAX_SHARDS = 0x7F

# The last field of BundleEntryProto, crc32c: the tag, four bytes.
_CHECKSUM_TAG, _CHECKSUM_SIZE = 0x35, 5

_MAX_REMEMBERED = 100_000

_RESTART_INTERVAL = 16  # of LevelDB's options.h, which TensorFlow leaves as it is


class SmallIndexes:
    """Reads small indexes, one after the other, and remembers in what those of one run are alike.

    That is nearly everything: as a rule, they differ in the checksums of the tensors and of
    their block only.
    """

    def __init__(self) -> None:
        self._heads: dict[bytes, Head | None] = {}  # see `scan_entry`
        self._places: dict[bytes, Place] = {}  # by all of an entry but its checksum
        self._last = 0, b""  # what `_end` has said the last time

    def shard_lengths(self, index: bytes) -> list[int] | None:
        """How long each shard has to be for the entries in it; `index` is the whole file.

        None if the file is not a table of one sound block with nothing but common entries,
        for whatever reason.
        """
        try:
            size, end = self._last
            if len(index) != size + BLOCK_TRAILER_SIZE + len(end) or not index.endswith(end):
                found = _end(index)
                if found is None:
                    return None
                size, _ = self._last = found
            block = _sound_block(index, 0, size)
            return None if block is None else self._scan(block)
        except CorruptionError:
            return None

    def _scan(self, block: bytes) -> list[int] | None:
        end, restarts = restart_array(block)
        if block[:_SHARDS_AT] != _BEFORE_SHARDS or block[_SHARDS_AT + 1 : _HEADER_END] != _AFTER_SHARDS:
            return None
        if block[_SHARDS_AT] > _MAX_SHARDS:
            return None
        lengths = [0] * block[_SHARDS_AT]
        pos, key_size, begins = _HEADER_END, 0, [0]
        while pos + 3 < end:
            begins.append(pos)
            shared, unshared, size = block[pos], block[pos + 1], block[pos + 2]
            value_at = pos + 3 + unshared
            pos = value_at + size
            if (shared | unshared | size) >= 0x80 or shared > key_size or pos > end:
                return None
            key_size = shared + unshared
            place = self._places.get(block[value_at : pos - _CHECKSUM_SIZE])
            if place is None:
                place = self._place(block[value_at:pos])
            if place is None or not key_size or block[pos - _CHECKSUM_SIZE] != _CHECKSUM_TAG:
                return None
            shard, needed = place
            if shard >= len(lengths):
                return None
            if needed > lengths[shard]:
                lengths[shard] = needed
        return lengths if pos == end and _restarts_fit(block, end, restarts, begins) else None

    def _place(self, value: bytes) -> Place | None:
        """Where the tensor of an entry lies; None for an uncommon form."""
        entry = scan_entry(value, self._heads)
        if entry is None:
            return None
        _, _, shard, offset, size, _ = entry
        place = shard, offset + size if size else 0
        if len(self._places) < _MAX_REMEMBERED:
            self._places[value[:-_CHECKSUM_SIZE]] = place
        return place


def _end(index: bytes) -> tuple[int, bytes] | None:
    """Size of the data block, and all that follows its trailer, if it is the only one and comes first."""
    if len(index) < FOOTER_SIZE or not index.endswith(MAGIC_BYTES):
        return None
    # The handle of the metaindex, which holds nothing, and that of the index.
    _, _, offset, size = _numbers(index[-FOOTER_SIZE : -len(MAGIC_BYTES)], 4)
    table_index = _sound_block(index, offset, size)
    if table_index is None:
        return None
    end, _ = restart_array(table_index)
    shared, unshared, handle_size = table_index[:3]
    handle_at = 3 + unshared
    if shared or (unshared | handle_size) >= 0x80 or handle_at + handle_size != end:
        return None
    block_offset, block_size = _numbers(table_index[handle_at:end], 2)
    block_end = block_size + BLOCK_TRAILER_SIZE
    return (block_size, index[block_end:]) if block_offset == 0 and block_end <= offset else None


def _numbers(buf: bytes, count: int) -> list[int]:
    """The first so many varints; CorruptionError unless they are there."""
    numbers, pos = [], 0
    for _ in range(count):
        number, pos = read_varint(buf, pos, len(buf))
        numbers.append(number)
    return numbers


def _sound_block(file: bytes, offset: int, size: int) -> bytes | None:
    """The contents of a block, if it lies in the file, intact and not compressed."""
    end = offset + size
    # The compression type, which follows the contents, is covered by the checksum.
    checked = file[offset : end + 1]
    stored = file[end + 1 : end + BLOCK_TRAILER_SIZE]
    if len(stored) != BLOCK_TRAILER_SIZE - 1 or checked[-1] != RAW:
        return None
    return checked[:-1] if mask(crc32c(checked)) == int.from_bytes(stored, "little") else None


def _restarts_fit(block: bytes, end: int, count: int, begins: list[int]) -> bool:
    """Whether the restart points are every sixteenth entry, with its key stored whole, as writers do."""
    if count == 1:  # a lookup begins with the first entry, wherever that points
        return True
    points = [int.from_bytes(block[at : at + 4], "little") for at in range(end, end + 4 * count, 4)]
    return points == begins[::_RESTART_INTERVAL] and not any(block[point] for point in points)
