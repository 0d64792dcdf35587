"""The saver's keys against the index, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptool.errors import NotFoundError, RequestError
from ckptool.format.proto.object_graph_pb2 import TrackableObjectGraph
from ckptool.model.graphs import find_graphs, read_graphs
from ckptool.ops.saver_check import check_graph, stem_range
from tests.ops.graphs import checkpoint, graph, saver_text
from tests.oracle import FIXTURES


def check(path):
    source = find_graphs(path)
    return check_graph(source, next(iter(read_graphs(source)), None))


@pytest.mark.parametrize(
    "name",
    [
        "tutorial-placeholders", "tutorial-w1-w2", "v1-single", "v1-sharded", "sharded", "partitioned",
        "optimizer-slots", "saved-model", "saved-model-v1", "object-tree", "object-slots", "object-keras",
    ],
)  # fmt: skip
def test_what_tensorflow_wrote_fits(name):
    result = check(FIXTURES / name)
    assert result.ok
    assert (result.missing_in_index, result.not_in_saver, result.near) == ([], [], {})


def test_both_ways_with_near_names(tmp_path):
    checkpoint(tmp_path / "model", ["dense/bias", "dense/kernel", "other"])
    graph(tmp_path, saver_text(["net/dense/kernel", "dense/bias", "zzz"]))
    result = check(tmp_path / "model")
    assert not result.ok
    assert result.missing_in_index == ["net/dense/kernel", "zzz"]
    assert result.not_in_saver == ["dense/kernel", "other"]
    assert result.near["net/dense/kernel"][0] == "dense/kernel"
    assert "zzz" not in result.near


def test_what_is_missing_in_an_object_based_checkpoint(tmp_path):
    objects = TrackableObjectGraph()
    node = objects.nodes.add()
    for key in ("a/VALUE", "t/table", "gone"):
        node.attributes.add(checkpoint_key=key)
    checkpoint(tmp_path / "m", ["a/VALUE", "extra", "t/table-keys", "t/table-values"], objects)
    result = check(tmp_path / "m")
    assert result.missing_in_index == ["gone"]
    assert result.not_in_saver == ["extra"]


def test_nothing_to_compare(tmp_path):
    graph(tmp_path, saver_text(["a"]))
    with pytest.raises(NotFoundError, match="other files are not here"):
        check(tmp_path / "model.meta")
    checkpoint(tmp_path / "model", ["a"])
    graph(tmp_path, "graph_def { node { name: 'a' op: 'NoOp' } }")
    with pytest.raises(RequestError, match="no saver"):
        check(tmp_path / "model")
    with pytest.raises(RequestError, match="neither a graph nor an object graph"):
        check(FIXTURES / "no-meta")


@given(st.lists(st.text(max_size=4)), st.text(max_size=3))
def test_names_that_begin_with_a_stem(names, stem):
    ordered = sorted(names)
    begin, end = stem_range(stem, ordered)
    assert ordered[begin:end] == [name for name in ordered if name.startswith(stem)]
