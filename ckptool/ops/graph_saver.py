"""The Saver of a graph: which keys its save and restore ops hold, and which variables they stand for.

Source: tensorflow/python/training/saver.py, BulkSaverBuilder and BaseSaverBuilder._build_internal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckptool.format.graphdef import RESTORE_OPS, SAVE_OPS, VARIABLE_OPS, constant_strings, op_name
from ckptool.format.names import decode_name
from ckptool.model.graphs import Graph
from ckptool.ops.graph_collections import SaverRecord, saver_record

if TYPE_CHECKING:
    from ckptool.format.proto.graph_pb2 import FunctionDef, NodeDef

_FIRST_DATA = {"Save": 2, "SaveSlices": 3, "SaveV2": 3}  # the input from which on they are what is saved
_TENSOR_NAMES = 1  # the input with the keys, of all save and restore ops
_READS = frozenset(("Identity", "ReadVariableOp", "Read", "ReadVariableXlaSplitND"))
_MAX_READS = 64  # ops between a variable and what saves it; TensorFlow puts three at most


@dataclass(frozen=True)
class GraphSaver(SaverRecord):
    """The Saver that a MetaGraph was written by.

    Attributes:
        save_keys: the checkpoint keys that its save ops write, in their order; a
            partitioned variable's once for each part.
        restore_keys: those that its restore ops ask for.
    """

    save_keys: list[str]
    restore_keys: list[str]

    @property
    def keys(self) -> dict[str, None]:
        """Every key once, in order."""
        return dict.fromkeys([*self.save_keys, *self.restore_keys])


@dataclass(frozen=True)
class SaverKeys:
    """The Saver, and the variables behind its keys: op name -> key."""

    saver: GraphSaver | None
    variables: Mapping[str, str]


def read_saver(graph: Graph) -> SaverKeys:
    """The Saver of the graph, by its SaverDef and the ops that this names; None if there is none."""
    stored = graph.header.saver_def
    if not (stored.save_tensor_name or stored.restore_op_name):
        return SaverKeys(None, {})
    record = saver_record(stored)
    save_keys, restore_keys = [], []
    variables: dict[str, str] = {}
    for scope, node in _saving_ops(graph, stored.save_tensor_name, SAVE_OPS):
        keys = scope.keys(node)
        save_keys += keys
        data = [scope.source(reference) for reference in node.input[_FIRST_DATA[node.op] :]]
        for key, saved in zip(keys, data, strict=False):
            if saved is not None and saved.op in VARIABLE_OPS:
                variables.setdefault(saved.name, key)
    for scope, node in _saving_ops(graph, stored.restore_op_name, RESTORE_OPS):
        restore_keys += scope.keys(node)
    fields = {name: getattr(record, name) for name in SaverRecord.__dataclass_fields__}
    return SaverKeys(GraphSaver(**fields, save_keys=save_keys, restore_keys=restore_keys), variables)


@dataclass
class _Scope:
    """Where names are looked up: the graph, or the body of a function that was called."""

    graph: Graph
    body: Mapping[str, NodeDef] | None = None
    arguments: Mapping[str, tuple[_Scope, str]] = field(default_factory=dict)

    def node(self, name: str) -> NodeDef | None:
        return self.graph.node(name) if self.body is None else self.body.get(name)

    def source(self, reference: str) -> NodeDef | None:
        """The op that an input comes from, past ops that only hand it on and out of functions."""
        scope, node = self, None
        for _ in range(_MAX_READS):
            name = op_name(reference)
            while name in scope.arguments:
                scope, reference = scope.arguments[name]
                name = op_name(reference)
            node = scope.node(name)
            if node is None or node.op not in _READS or not node.input:
                break
            reference = node.input[0]
        return node

    def keys(self, node: NodeDef) -> list[str]:
        """The keys that a save or restore op holds."""
        if len(node.input) <= _TENSOR_NAMES:
            return []
        names = self.source(node.input[_TENSOR_NAMES])
        return [] if names is None else list(map(decode_name, constant_strings(names)))


def _saving_ops(graph: Graph, start: str, wanted: frozenset[str]) -> Iterator[tuple[_Scope, NodeDef]]:
    """The ops of these types that `start` depends on, functions it calls included, in file order.

    Within a function every op counts, because nothing in it runs for another purpose.
    """
    functions = {f.signature.name: f for f in graph.header.graph_def.library.function}
    whole = _Scope(graph)
    found: list[tuple[int, _Scope, NodeDef]] = []
    seen, entered = {op_name(start)}, set[str]()
    stack = [op_name(start)]
    while stack:
        node = graph.node(stack.pop())
        if node is None:
            continue
        if node.op in wanted:
            found.append((graph.positions[node.name], whole, node))
            continue
        for function in _called(node, functions, entered):
            place = graph.positions[node.name]
            inner = _in_function(function, whole, node, functions, entered, wanted)
            found += [(place, scope, saving) for scope, saving in inner]
        if node.op in SAVE_OPS | RESTORE_OPS:
            continue
        names = [name for name in map(op_name, node.input) if name not in seen]
        seen.update(names)
        stack += names
    found.sort(key=lambda item: item[0])  # that of the Saver's shards
    return ((scope, node) for _, scope, node in found)


def _called(node: NodeDef, functions: Mapping[str, FunctionDef], entered: set[str]) -> Iterator[FunctionDef]:
    """The functions that a node calls and nothing before it did."""
    for value in node.attr.values():
        name = value.func.name if value.HasField("func") else ""
        if name in functions and name not in entered:
            entered.add(name)
            yield functions[name]


def _in_function(
    function: FunctionDef,
    caller: _Scope,
    call: NodeDef,
    functions: Mapping[str, FunctionDef],
    entered: set[str],
    wanted: frozenset[str],
) -> list[tuple[_Scope, NodeDef]]:
    """The ops of these types in a function and in what it calls."""
    found = []
    pending = [(function, caller, call)]
    while pending:
        function, caller, call = pending.pop()
        given = [reference for reference in call.input if not reference.startswith("^")]
        names = [argument.name for argument in function.signature.input_arg]
        arguments = {name: (caller, reference) for name, reference in zip(names, given, strict=False)}
        scope = _Scope(caller.graph, {node.name: node for node in function.node_def}, arguments)
        for node in function.node_def:
            if node.op in wanted:
                found.append((scope, node))
            pending += [(inner, scope, node) for inner in _called(node, functions, entered)]
    return found
