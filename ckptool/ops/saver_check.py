"""Whether a graph and its checkpoint fit: the keys that would be asked for against those that are there."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ckptool.errors import RequestError
from ckptool.format.object_keys import OBJECT_GRAPH_KEY
from ckptool.model.graphs import Graph, GraphSource, read_object_graph
from ckptool.model.reader import CheckpointReader
from ckptool.ops.graph_saver import read_saver
from ckptool.ops.select import nearest_names

_AFTER_ALL = chr(0x10FFFF)  # sorts after every other character
_MAX_SUGGESTED = 20  # missing keys for which near names are looked up: each is compared with many


@dataclass(frozen=True)
class SaverCheck:
    """What restoring would stumble over.

    Attributes:
        missing_in_index: keys that the saver asks for and the checkpoint does not have: for
            these TensorFlow says "Key ... not found in checkpoint".
        not_in_saver: tensors of the checkpoint that the saver does not know.
        near: missing key -> the most similar ones of the checkpoint, for the first few.
    """

    missing_in_index: list[str]
    not_in_saver: list[str]
    near: dict[str, list[str]]

    @property
    def ok(self) -> bool:
        """Whether both have the same keys."""
        return not self.missing_in_index and not self.not_in_saver


def check_graph(source: GraphSource, graph: Graph | None) -> SaverCheck:
    """The saver's keys, or without a graph those of the object graph, against the checkpoint of the source.

    Raises:
        NotFoundError: the graph stands alone, there is no checkpoint.
        RequestError: there is neither a saver nor an object graph.
    """
    with CheckpointReader(source.checkpoint()) as reader:
        return check_objects(reader) if graph is None else check_saver(graph, reader)


def check_saver(graph: Graph, reader: CheckpointReader) -> SaverCheck:
    """The keys of the graph's saver against those of a checkpoint; RequestError without a saver."""
    saver = read_saver(graph).saver
    if saver is None:
        raise RequestError(
            "has no saver whose keys could be compared",
            path=graph.source.path,
            remedy="it is there in what tf.compat.v1.train.Saver().save writes",
        )
    stored = [name for name, _, _ in reader.heads()]
    return _compare(saver.keys, dict.fromkeys(stored), set(saver.keys))


def check_objects(reader: CheckpointReader) -> SaverCheck:
    """The keys that a checkpoint's object graph names against those it has.

    A key of the object graph may stand for several tensors whose names begin with it
    (hash tables, iterators). RequestError for a checkpoint without object graph.
    """
    objects = read_object_graph(reader)
    if objects is None:
        raise RequestError("has neither a graph nor an object graph", path=reader.prefix)
    stored = dict.fromkeys(name for name, _, _ in reader.heads())
    named = dict.fromkeys(a.checkpoint_key for node in objects.nodes for a in node.attributes)
    ordered = sorted(stored)
    ranges = {key: stem_range(key, ordered) for key in named if key not in stored}
    covered = {OBJECT_GRAPH_KEY, *named}
    end = 0
    for begin, stop in sorted(ranges.values()):
        covered.update(ordered[max(begin, end) : stop])  # ranges may lie within each other
        end = max(end, stop)
    stems = {key for key, (begin, stop) in ranges.items() if begin < stop}
    return _compare([key for key in named if key not in stems], stored, covered)


def stem_range(stem: str, ordered: Sequence[str]) -> tuple[int, int]:
    """Where in a sorted list the names that begin with `stem` are: first, and after the last."""
    return bisect_left(ordered, stem), bisect_left(ordered, stem + _AFTER_ALL)


def _compare(asked: Iterable[str], stored: Mapping[str, None], known: Container[str]) -> SaverCheck:
    missing = [key for key in asked if key not in stored]
    extra = [name for name in stored if name not in known]
    near = {key: nearest_names(key, extra) or nearest_names(key, stored) for key in missing[:_MAX_SUGGESTED]}
    return SaverCheck(missing, extra, {key: names for key, names in near.items() if names})
