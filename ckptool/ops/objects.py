"""The object graph of a checkpoint or SavedModel as a tree: objects, their values, keys and slots.

Every object hangs where TensorFlow finds it first, breadth-first from the root, which is
also the path that its keys are made of; wherever else it is referred to, it is only named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckptool.errors import NotFoundError
from ckptool.format.graphdef import PartialShape, dtype_name, partial_shape
from ckptool.format.shape import Shape
from ckptool.model.graphs import Graph, GraphSource, read_object_graph
from ckptool.model.reader import CheckpointReader
from ckptool.ops.saver_check import stem_range

if TYPE_CHECKING:
    from ckptool.format.proto.object_graph_pb2 import SavedObjectGraph, TrackableObjectGraph

_MAX_PER_STEM = 20  # tensors of one object: a hash table has two


@dataclass(frozen=True)
class ObjectValue:
    """A tensor that an object saves.

    Attributes:
        name: of the attribute, VARIABLE_VALUE for variables; of a slot, the slot's.
        key: in the checkpoint, None where there is no checkpoint.
        full_name: the variable's name in TensorFlow.
        dtype, shape: None for a key that the checkpoint does not have.
        slot_of: for a slot, the object that keeps it (an optimizer), else None.
    """

    name: str
    key: str | None
    full_name: str
    dtype: str | None
    shape: PartialShape
    slot_of: int | None = None


@dataclass(frozen=True)
class ObjectEntry:
    """A line of the tree, which is given depth-first.

    Attributes:
        id: of the object, 0 for the root; one that is referred to twice has two entries.
        parent: id of the object it hangs on; None for the root, and for what no path leads to.
        name: under which the parent has it.
        depth: 0 for the root.
        kind: what a SavedModel says it is, "" in a checkpoint.
        shared: whether another entry speaks of the same object.
        repeated: whether this entry only refers to it: its values and children are elsewhere.
        values: its tensors, its slots after them.
    """

    id: int
    parent: int | None
    name: str
    depth: int
    kind: str = ""
    shared: bool = False
    repeated: bool = False
    values: list[ObjectValue] = field(default_factory=list)


@dataclass
class _Node:
    children: list[tuple[str, int]]
    kind: str = ""
    values: list[ObjectValue] = field(default_factory=list)
    slots: list[tuple[int, str, int]] = field(default_factory=list)  # original, name of the slot, variable


def graph_objects(source: GraphSource, graph: Graph | None) -> list[ObjectEntry]:
    """The objects of the checkpoint that a source leads to, or else those of its SavedModel.

    NotFoundError if neither has any; raises what reading the checkpoint raises.
    """
    if source.location is not None:
        with CheckpointReader(source.location) as reader:
            stored = read_object_graph(reader)
            if stored is not None:
                return checkpoint_objects(stored, reader)
    if graph is not None and graph.header.object_graph_def.nodes:
        return saved_model_objects(graph.header.object_graph_def)
    if graph is None:
        raise NotFoundError(
            "has neither a .meta nor an object graph",
            path=source.path,
            remedy="was it saved with write_meta_graph=False, or copied without its .meta?",
        )
    raise NotFoundError(
        "has no object graph",
        path=source.path,
        remedy="it is in what tf.train.Checkpoint writes, and in SavedModels of TensorFlow 2",
    )


def checkpoint_objects(graph: TrackableObjectGraph, reader: CheckpointReader) -> list[ObjectEntry]:
    """The objects of a checkpoint, with the types and shapes that its index has for their keys."""
    index = _Index({name: (dtype.name, shape) for name, dtype, shape in reader.heads()})
    nodes = []
    for stored in graph.nodes:
        values = [
            value for a in stored.attributes for value in index.values(a.name, a.checkpoint_key, a.full_name)
        ]
        nodes.append(
            _Node(
                [(child.local_name, child.node_id) for child in stored.children],
                values=values,
                slots=[
                    (s.original_variable_node_id, s.slot_name, s.slot_variable_node_id)
                    for s in stored.slot_variables
                ],
            )
        )
    return _tree(nodes)


def saved_model_objects(graph: SavedObjectGraph) -> list[ObjectEntry]:
    """The objects of a SavedModel by its own account, which has no keys."""
    nodes = []
    for stored in graph.nodes:
        kind = stored.WhichOneof("kind") or ""
        values = []
        if kind == "variable":
            v = stored.variable
            values = [
                ObjectValue("VARIABLE_VALUE", None, v.name, dtype_name(v.dtype), partial_shape(v.shape))
            ]
        slots = [
            (s.original_variable_node_id, s.slot_name, s.slot_variable_node_id) for s in stored.slot_variables
        ]
        identifier = stored.user_object.identifier if kind == "user_object" else kind
        children = [(child.local_name, child.node_id) for child in stored.children]
        nodes.append(_Node(children, identifier, values, slots))
    return _tree(nodes)


class _Index:
    """The tensors of a checkpoint, to look up the keys of an object graph."""

    def __init__(self, tensors: Mapping[str, tuple[str, Shape]]) -> None:
        self._tensors = tensors
        self._ordered = sorted(tensors)

    def values(self, name: str, key: str, full_name: str) -> Iterator[ObjectValue]:
        """The tensor of that key, or those whose names begin with it."""
        if key in self._tensors:
            yield ObjectValue(name, key, full_name, *self._tensors[key])
            return
        begin, end = stem_range(key, self._ordered)
        found = self._ordered[begin : min(end, begin + _MAX_PER_STEM)] if key else []
        for stored in found:
            yield ObjectValue(name, stored, full_name, *self._tensors[stored])
        if not found:
            yield ObjectValue(name, key, full_name, None, None)


def _tree(nodes: Sequence[_Node]) -> list[ObjectEntry]:
    slots = _slots(nodes)
    slot_nodes = {variable for node in nodes for _, _, variable in node.slots}
    homes: dict[int, tuple[int | None, int]] = {}  # object -> the parent it hangs on, and by which edge
    roots = []
    # What no path leads to is shown too, except slots, which stand beside their variables.
    for start in range(len(nodes)):
        if start not in homes and (start == 0 or start not in slot_nodes):
            roots.append(start)
            homes[start] = (None, 0)
            _claim(nodes, start, homes)
    return list(_entries(nodes, roots, homes, slots))


def _claim(nodes: Sequence[_Node], start: int, homes: dict[int, tuple[int | None, int]]) -> None:
    """Give every object that can be reached from `start` its place, breadth-first."""
    queue = deque([start])
    while queue:
        parent = queue.popleft()
        for edge, (_, child) in enumerate(nodes[parent].children):
            if 0 <= child < len(nodes) and child not in homes:
                homes[child] = (parent, edge)
                queue.append(child)


def _slots(nodes: Sequence[_Node]) -> dict[int, list[ObjectValue]]:
    """Variable -> its slots in all optimizers."""
    found: dict[int, list[ObjectValue]] = {}
    for optimizer, node in enumerate(nodes):
        for original, slot, variable in node.slots:
            values: Iterable[ObjectValue] = nodes[variable].values if 0 <= variable < len(nodes) else ()
            found.setdefault(original, []).extend(
                ObjectValue(slot, v.key, v.full_name, v.dtype, v.shape, optimizer) for v in values
            )
    return found


def _entries(
    nodes: Sequence[_Node],
    roots: Sequence[int],
    homes: Mapping[int, tuple[int | None, int]],
    slots: Mapping[int, list[ObjectValue]],
) -> Iterator[ObjectEntry]:
    referred = [0] * len(nodes)
    for root in roots:
        referred[root] += 1
    for node in nodes:
        for _, child in node.children:
            if 0 <= child < len(nodes):
                referred[child] += 1
    for root in roots:
        stack: list[tuple[int, int | None, int, str, int]] = [(root, None, 0, "", 0)]
        while stack:
            number, parent, edge, name, depth = stack.pop()
            if not 0 <= number < len(nodes):
                yield ObjectEntry(number, parent, name, depth, "missing", False, True)
                continue
            node, shared = nodes[number], referred[number] > 1
            if homes.get(number) != (parent, edge):
                yield ObjectEntry(number, parent, name, depth, node.kind, shared, True)
                continue
            values = [*node.values, *slots.get(number, ())]
            yield ObjectEntry(number, parent, name, depth, node.kind, shared, False, values)
            stack += [
                (child, number, at, local, depth + 1)
                for at, (local, child) in reversed(list(enumerate(node.children)))
            ]
