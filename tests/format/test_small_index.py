"""The fast path of small indexes agrees with the general one, or leaves the index to it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckptool.errors import CheckpointError
from ckptool.format.bundle import Bundle, BundleEntry, BundleHeader
from ckptool.format.dtypes import DType
from ckptool.format.small_index import SmallIndexes
from ckptool.format.sstable import BLOCK_TRAILER_SIZE, FOOTER_SIZE, Footer
from ckptool.format.sstable_write import TableWriter
from tests import tables
from tests.oracle import FIXTURES

HEADER = BundleHeader(3).encode()
HEADERS = [
    *(BundleHeader(0).encode(), BundleHeader(3, 1).encode(), BundleHeader(128).encode()),
    *(HEADER + b"\x78\x01", b"\x08\x83\x1a\x02\x08\x01", b"\x08\x03", b""),
]

entries = st.builds(
    BundleEntry,
    dtype=st.integers(1, 20).map(DType),
    shape=st.lists(st.integers(0, 300), max_size=3).map(tuple),
    shard_id=st.sampled_from([0, 0, 1, 2, 3, -1]),
    offset=st.one_of(st.integers(0, 200), st.integers(-1, 2**62)),
    size=st.one_of(st.integers(0, 200), st.integers(-1, 2**62)),
    crc32c=st.integers(0, 2**32 - 1),
)
stored = st.builds(
    lambda entry, extra, cut: (entry.encode() + extra)[: -cut or None],
    entries,
    st.sampled_from([b"", b"", b"", b"\x08\x03", b"\x78\x01", b"\x35abcd"]),
    st.sampled_from([0, 0, 0, 1, 3]),
)
keys = st.one_of(st.binary(max_size=2), st.binary(max_size=2).map(b"layer/".__add__), st.just(b"k" * 200))


def written(contents: dict[bytes, bytes]) -> bytes:
    """An index as TensorFlow writes it."""
    parts: list[bytes] = []
    writer = TableWriter(parts.append)
    for key, value in sorted(contents.items()):
        writer.add(key, value)
    writer.finish()
    return b"".join(parts)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index")


def in_general(index: bytes, directory: Path) -> list[int] | None:
    """What `Bundle` says; None for an index that cannot be used."""
    (directory / "m.index").write_bytes(index)
    lengths: dict[int, int] = defaultdict(int)
    try:
        bundle = Bundle(str(directory / "m"))
        try:
            for shard, offset, size in bundle.extents():
                lengths[shard] = max(lengths[shard], offset + size if size else 0)
            shards = range(bundle.num_shards)
            return [lengths[n] for n in shards] if all(shard in shards for shard in lengths) else None
        finally:
            bundle.close()
    except CheckpointError:
        return None


def assert_agreement(index: bytes, directory: Path, indexes: SmallIndexes | None = None) -> None:
    found = (indexes or SmallIndexes()).shard_lengths(index)
    if found is not None:
        assert found == in_general(index, directory)


@given(st.sampled_from([HEADER, *HEADERS]), st.dictionaries(keys, stored, max_size=40))
def test_what_is_said_is_what_bundle_says(
    directory: Path, header: bytes, contents: dict[bytes, bytes]
) -> None:
    index = written({**contents, b"": header})
    indexes = SmallIndexes()
    assert_agreement(index, directory, indexes)
    assert_agreement(index, directory, indexes)


@given(
    st.dictionaries(keys, entries.map(BundleEntry.encode), min_size=1, max_size=40),
    st.integers(0),
    st.integers(0, 255),
)
def test_a_changed_byte_under_a_right_checksum(
    directory: Path, contents: dict[bytes, bytes], at: int, byte: int
) -> None:
    index = written({**contents, b"": HEADER})
    end = Footer.decode(index[-FOOTER_SIZE:]).metaindex_handle.offset
    block = bytearray(index[: end - BLOCK_TRAILER_SIZE])
    block[at % len(block)] = byte
    changed = tables.stored(bytes(block)) + index[end:]
    assert_agreement(changed, directory)
    learnt = SmallIndexes()
    assert_agreement(index, directory, learnt)
    assert_agreement(changed, directory, learnt)


def with_blocks(*blocks: bytes) -> bytes:
    """An index with these data blocks, which have their trailers, of which only the last one counts."""
    return tables.assemble(blocks, tables.block({b"\xff": tables.places(blocks)[-1].encode()}))


def test_every_byte_of_a_block_under_a_right_checksum(directory: Path) -> None:
    values = {b"layer/%02d" % n: tables.entry(shape=(1,), offset=4 * n, size=4) for n in range(18)}
    index = written({**values, b"": HEADER})
    block = index[: Footer.decode(index[-FOOTER_SIZE:]).metaindex_handle.offset - BLOCK_TRAILER_SIZE]
    learnt = SmallIndexes()
    assert learnt.shard_lengths(with_blocks(tables.stored(block))) == [72, 0, 0]
    for at, old in enumerate(block):
        for byte in {0, 1, 3, 9, 0x7F, 0x80, 0xFF, old - 1 & 0xFF, old + 1 & 0xFF}:
            changed = with_blocks(tables.stored(block[:at] + bytes((byte,)) + block[at + 1 :]))
            assert_agreement(changed, directory)
            assert_agreement(changed, directory, learnt)


def test_other_places_and_kinds_of_the_block(directory: Path) -> None:
    first, second = (tables.block({b"": HEADER, b"w": tables.entry(shape=(n,), size=4 * n)}) for n in (1, 2))
    assert_agreement(with_blocks(tables.stored(first), tables.stored(second)), directory)
    assert_agreement(with_blocks(tables.stored(first, 1)), directory)
    assert_agreement(with_blocks(tables.stored(first, 7)), directory)


@pytest.mark.parametrize("rest", [b"\0", b"\0\0", b"\0\1\0", b"\0\1\0k"])
def test_what_follows_the_last_entry(directory: Path, rest: bytes) -> None:
    entries = bytes((0, 0, len(HEADER))) + HEADER + rest
    assert_agreement(with_blocks(tables.stored(entries + bytes(4) + b"\1\0\0\0")), directory)


def test_a_second_empty_key(directory: Path) -> None:
    entry = tables.entry(shape=(1,), size=4)
    twice = bytes((0, 0, len(HEADER))) + HEADER + bytes((0, 0, len(entry))) + entry
    assert_agreement(with_blocks(tables.stored(twice + bytes(4) + b"\x01\0\0\0")), directory)


@given(st.data())
def test_changed_bytes_anywhere(directory: Path, data: st.DataObject) -> None:
    index = bytearray(written({b"": HEADER, b"a": tables.entry(size=4, shape=(1,)), b"b": tables.entry()}))
    learnt = SmallIndexes()
    assert_agreement(bytes(index), directory, learnt)
    for _ in range(data.draw(st.integers(1, 2))):
        index[data.draw(st.integers(0, len(index) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 8, 60]))
    assert_agreement(bytes(index[cut:]), directory)
    assert_agreement(bytes(index[cut:]), directory, learnt)


@given(st.binary(max_size=120))
@example(tables.table({}))
@example(tables.table({b"": HEADER}, compressed=b"\x00"))
@example(tables.assemble([], tables.block({})))
def test_no_bytes_make_it_fail(contents: bytes) -> None:
    SmallIndexes().shard_lengths(contents)
    SmallIndexes().shard_lengths(contents + tables.bundle_index({})[-FOOTER_SIZE:])


@given(st.dictionaries(st.binary(min_size=1, max_size=3), st.integers(0, 2), max_size=60))
def test_what_tensorflow_writes_takes_the_fast_path(directory: Path, contents: dict[bytes, int]) -> None:
    values = {
        key: tables.entry(shape=(2,), shard_id=shard, offset=300 * number, size=8)
        for number, (key, shard) in enumerate(contents.items())
    }
    index = written({**values, b"": HEADER})
    found = SmallIndexes().shard_lengths(index)
    assert found is not None
    assert found == in_general(index, directory)


@pytest.mark.parametrize(
    "prefix", ["tutorial-layers/model.ckpt", "optimizer-slots/model.ckpt-3", "dtypes/dtypes"]
)
def test_real_indexes_take_the_fast_path(prefix: str) -> None:
    index = (FIXTURES / f"{prefix}.index").read_bytes()
    shard = FIXTURES / f"{prefix}.data-00000-of-00001"
    assert SmallIndexes().shard_lengths(index) == [shard.stat().st_size]


def test_checkpoints_of_one_run_share_what_is_remembered(directory: Path) -> None:
    indexes = SmallIndexes()
    for crc in range(3):
        index = written({b"": HEADER, b"w": tables.entry(shape=(2,), size=8, shard_id=1, crc=crc)})
        assert indexes.shard_lengths(index) == [0, 8, 0] == in_general(index, directory)
