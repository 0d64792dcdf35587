"""The fast path of listings agrees with the general one, or leaves the entry to it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckptool.errors import CorruptionError
from ckptool.format.bundle import Bundle, BundleEntry, decode_entry
from ckptool.format.dtypes import DType
from ckptool.format.index_scan import Head, scan_entry, scan_heads
from ckptool.format.slices import Extent
from ckptool.format.sstable import iter_block
from tests.oracle import FIXTURES
from tests.tables import block

int32s = st.integers(-(2**31), 2**31 - 1)
int64s = st.one_of(st.integers(0, 200), st.integers(-(2**63), 2**63 - 1))
entries = st.builds(
    BundleEntry,
    dtype=st.integers(-2, 300).map(DType),
    shape=st.lists(int64s, max_size=5).map(tuple),
    shard_id=int32s,
    offset=int64s,
    size=int64s,
    crc32c=st.integers(0, 2**32 - 1),
    slices=st.lists(st.tuples(st.builds(Extent, st.integers(0, 9), st.integers(-1, 9))), max_size=2).map(
        tuple
    ),
)
# Around what writers make: extra fields, cut ends, changed bytes.
stored_entries = st.builds(
    lambda entry, extra, cut: (entry.encode() + extra)[: -cut or None],
    entries,
    st.sampled_from([b"", b"\x08\x03", b"\x12\x02\x12\x00", b"\x78\x01", b"\x35abcd"]),
    st.integers(0, 3),
)


def general(value: bytes) -> BundleEntry | None:
    try:
        return decode_entry(value)
    except CorruptionError:
        return None


@given(stored_entries)
@example(b"\x08\x01\x12\x00\x35abcd")
@example(b"\x08\x01\x12\x7f\x35abcd")
def test_an_entry_is_read_as_in_general(value: bytes) -> None:
    found = scan_entry(value, {})
    if found is not None:
        assert BundleEntry(*found) == general(value)


@given(st.builds(BundleEntry, st.integers(1, 33).map(DType), st.just((784, 200)), st.integers(0, 99999)))
def test_what_tensorflow_writes_takes_the_fast_path(entry: BundleEntry) -> None:
    stored = entry._replace(offset=2**40, size=627200, crc32c=1, slices=())
    assert scan_entry(stored.encode(), {}) == tuple(stored)[:6]


@given(
    st.dictionaries(st.binary(max_size=140), st.one_of(stored_entries, st.binary(max_size=140)), max_size=8)
)
def test_a_block_is_listed_as_in_general(contents: dict[bytes, bytes]) -> None:
    found = scan_heads(block(contents), {})
    if found is not None:
        wanted = {key: decode_entry(value) for key, value in contents.items() if key and general(value)}
        for key, (dtype, shape) in zip(*found, strict=True):
            # A dtype or shape given twice, which no writer does, is seen only by reading the entry.
            if key in wanted and contents[key].count(b"\x08") + contents[key].count(b"\x12") < 3:
                assert (dtype, shape) == wanted[key][:2]
        assert found[0] == [key for key in contents if key]


@given(st.binary(max_size=200))
def test_no_block_makes_it_fail_otherwise(contents: bytes) -> None:
    try:
        scan_heads(contents, {})
    except CorruptionError:
        with pytest.raises(CorruptionError):
            list(iter_block(contents))


def test_real_indexes_take_the_fast_path() -> None:

    for prefix in ("tutorial-layers/model.ckpt", "optimizer-slots/model.ckpt-3", "dtypes/dtypes"):
        bundle = Bundle(str(FIXTURES / prefix))
        known: dict[bytes, Head | None] = {}
        for _, contents in bundle.table.blocks():
            assert scan_heads(contents, known) is not None
        bundle.close()


def test_extents_are_those_of_the_entries() -> None:
    for prefix in ("tutorial-layers/model.ckpt", "partitioned/model.ckpt-1", "sharded/model.ckpt-42"):
        bundle = Bundle(str(FIXTURES / prefix))
        expected = [(entry.shard_id, entry.offset, entry.size) for _, entry in bundle.stored_entries()]
        assert list(bundle.extents()) == expected
        bundle.close()


def test_heads_are_remembered_from_one_checkpoint_to_the_next_but_not_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ckptool.format.bundle._heads", {})
    monkeypatch.setattr("ckptool.format.bundle._MAX_HEADS", 2)
    known = []
    for prefix in (
        "tutorial-w1-w2/my_test_model",
        "tutorial-layers/model.ckpt",
        "tutorial-w1-w2/my_test_model",
    ):
        bundle = Bundle(str(FIXTURES / prefix))
        heads = {key: (entry.dtype, entry.shape) for key, entry in bundle.entries()}
        assert heads == {
            key: head for keys, found in bundle.head_lists() for key, head in zip(keys, found, strict=True)
        }
        known.append(bundle._known_heads)
        bundle.close()
    assert known[0] is known[1]
    assert known[1] is not known[2]
