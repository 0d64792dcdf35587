"""What a tensor is for: weight, optimizer slot, moving average or bookkeeping. Decided here, nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ckptool.errors import CheckpointError
from ckptool.format.dtypes import DType
from ckptool.format.filenames import meta_path
from ckptool.format.object_keys import (
    ITERATOR_SUFFIX,
    OBJECT_GRAPH_KEY,
    SLOT_MARK,
    VALUE_SUFFIX,
    split_slot_key,
)
from ckptool.format.shape import Shape
from ckptool.model.graphs import read_object_graph
from ckptool.model.reader import CheckpointReader
from ckptool.wire.files import read_file

if TYPE_CHECKING:
    from ckptool.format.proto.object_graph_pb2 import TrackableObjectGraph

Role = Literal["weight", "slot", "average", "bookkeeping"]
ROLES: tuple[Role, ...] = ("weight", "slot", "average", "bookkeeping")

_MAX_META = 1 << 30

# Slots of a Saver's checkpoint are named after their optimizer (slot_creator.py): its default
# names, and those of optimizers that name slots themselves. Compared without case and `_1`.
_OPTIMIZER_NAMES = frozenset((
    "accum_grad", "accum_var", "adabelief", "adadelta", "adafactor", "adagrad", "adagradda", "adam",
    "adam_m", "adam_v", "adamax", "adamw", "adamweightdecay", "addsign", "amsgrad", "bertadam",
    "elasticaverage", "ftrl", "ggt", "lamb", "lamb_m", "lamb_v", "lars", "larsoptimizer", "momentum",
    "momentumw", "nadam", "novograd", "powersign", "proximaladagrad", "radam", "rmsprop", "shampoo", "yogi",
))  # fmt: skip
# Slots that Keras' optimizers name by what they hold; words that a layer may use too.
_SLOT_WORDS = frozenset((
    "accumulator", "gradient_accumulator", "linear", "m", "mg", "rms", "slow", "v", "vc", "velocity",
    "vhat", "vr",
))  # fmt: skip
# Mesh TensorFlow's Adafactor puts the slot beside its variable: `kernel_slot_vr`.
_SLOT_SUFFIX = re.compile(r"(.+)_slot_(?:m|v|vc|vr)")
_AVERAGE_NAMES = frozenset(("exponentialmovingaverage", "ema", "average", "moving_average"))
# What assign_moving_average(zero_debias=True) keeps beside the average.
_DEBIAS_NAMES = frozenset(("biased", "local_step"))

_SCALAR_STATE = frozenset((
    "beta1_power", "beta2_power", "current_loss_scale", "dynamic_scale", "global_step", "good_steps",
    "learning_rate", "loss_scale", "save_counter",
))  # fmt: skip
# Counters if they are integers; a float called `step` may be a parameter.
_COUNTERS = frozenset((
    "epoch", "epochs", "iter", "iteration", "iterations", "num_steps", "step", "step_counter", "steps",
))  # fmt: skip
# Lists of a Keras 3 optimizer that hold something else than slots.
_KERAS_LISTS: dict[str, Role] = {
    "_trainable_variables": "weight",
    "_model_variables_moving_average": "average",
}
_STEP_NAMES = frozenset(("global_step", "save_counter"))

_NUMBERED = re.compile(r"_[0-9]+\Z")
# Parts of partitioned variables; `t_0` stands before the slots that contrib's estimators make.
_PART = re.compile(r"/(?:part|t)_[0-9]+\Z")
_INTEGERS = (DType.int32, DType.int64, DType.uint32, DType.uint64, DType.int16, DType.uint16)


def find_roles(reader: CheckpointReader) -> dict[str, Role]:
    """The role of every tensor, by name.

    Evidence is the object graph, the collections of the .meta beside the prefix, and the
    names; whatever is missing or cannot be read says nothing, and is no error. A name
    makes a slot or an average only where the variable that it would belong to exists.
    What nothing speaks against is a weight, batch normalization's statistics included.
    """
    heads = {name: (dtype, shape) for name, dtype, shape in reader.heads()}
    names = _Names(heads, _graph_file(reader) if OBJECT_GRAPH_KEY not in heads else _GraphFile())
    roles: dict[str, Role] = {name: names.role(name) for name in heads}
    if OBJECT_GRAPH_KEY in heads:
        roles.update(_object_roles(reader, heads))
        roles[OBJECT_GRAPH_KEY] = "bookkeeping"
    else:
        names.add_optimizer_state(roles)
    return roles


Heads = Mapping[str, tuple[DType, Shape]]


@dataclass(frozen=True)
class _GraphFile:
    """Variables by collection of the .meta, under their names in the checkpoint."""

    trainable: frozenset[str] = frozenset()
    averaged: frozenset[str] = frozenset()  # the originals, not the averages
    steps: frozenset[str] = frozenset()


def _graph_file(reader: CheckpointReader) -> _GraphFile:
    from ckptool.format.metagraph import collected_keys, parse_meta_graph

    try:
        graph = parse_meta_graph(read_file(meta_path(reader.prefix), _MAX_META))
    except CheckpointError:
        return _GraphFile()
    collections = ("trainable_variables", "moving_average_variables", "global_step")
    return _GraphFile(*(frozenset(collected_keys(graph, name)) for name in collections))


@dataclass
class _Names:
    """What names say, together with shapes and the collections of the graph."""

    heads: Heads
    graph: _GraphFile
    _scopes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        # Objects that keep slots: `opt` in `v/.OPTIMIZER_SLOT/opt/m/...`, or the owner of `_iterations`.
        self._optimizers = {split_slot_key(name).optimizer for name in self.heads if SLOT_MARK in name}
        for counter in ("/_iterations", "/iter"):
            end = counter + VALUE_SUFFIX
            self._optimizers |= {name[: -len(end)] for name in self.heads if name.endswith(end)}

    def role(self, name: str) -> Role:
        if name.endswith((VALUE_SUFFIX, ITERATOR_SUFFIX)):
            return self._object_role(name)
        scope, _, last = name.rpartition("/")
        word = _NUMBERED.sub("", last).lower()
        if name in self.graph.steps or (word in _STEP_NAMES and self._is_counter(name, word)):
            return "bookkeeping"  # also where TensorFlow 1 counts it among the trainable variables
        if name in self.graph.trainable:
            return "weight"
        if self._is_counter(name, word):
            return "bookkeeping"
        return self._belonging_role(name, scope, word)

    def _object_role(self, name: str) -> Role:
        if name.endswith(ITERATOR_SUFFIX):
            return "bookkeeping"
        if SLOT_MARK in name:
            variable, _, slot = split_slot_key(name)
            if variable + VALUE_SUFFIX in self.heads:
                return "average" if slot == "average" else "slot"
            return "weight"
        path = name.removesuffix(VALUE_SUFFIX)
        owner, _, last = path.rpartition("/")
        if self._is_counter(name, last.lstrip("_").lower()) or path.startswith("keras_api/metrics/"):
            return "bookkeeping"
        if owner in self._optimizers and not self.heads[name][1]:
            return "bookkeeping"
        optimizer, _, members = owner.rpartition("/")
        if optimizer in self._optimizers and members.startswith("_") and last.isdecimal():
            return _KERAS_LISTS.get(members, "slot")
        return "weight"

    def _is_counter(self, name: str, word: str) -> bool:
        dtype, shape = self.heads[name]
        return shape == () and (word in _SCALAR_STATE or (word in _COUNTERS and dtype in _INTEGERS))

    def _belonging_role(self, name: str, scope: str, word: str) -> Role:
        """The role of what may belong to another variable: the one it is named below, or beside."""
        if match := _SLOT_SUFFIX.fullmatch(name):
            return "slot" if match[1] in self.heads else "weight"
        owner = self._owner(name, scope, word) if scope else None
        if owner is None:
            return "weight"
        if word in _DEBIAS_NAMES:
            return "bookkeeping"
        if word in _AVERAGE_NAMES:
            return "average"
        if word in _OPTIMIZER_NAMES or word in _SLOT_WORDS:
            return "slot"
        # The graph knows what is trained: what lies below it in its shape and is not, was made for it.
        averaged = owner in self.graph.averaged and f"{owner}/ExponentialMovingAverage" not in self.heads
        return "average" if averaged else "slot"

    def _owner(self, name: str, scope: str, word: str) -> str | None:
        """The variable that `name` would belong to, None if there is none or `name` says nothing."""
        shape = self.heads[name][1]
        named = word in _OPTIMIZER_NAMES or word in _AVERAGE_NAMES or word in _DEBIAS_NAMES
        if not named and word not in _SLOT_WORDS and not self.graph.trainable:
            return None
        for number, variable in enumerate(_inner_names(scope)):
            if variable not in self.heads or variable == name:
                continue
            like = self.heads[variable][1] == shape
            if named and (number == 0 or like or word in _DEBIAS_NAMES):
                break
            if like and (word in _SLOT_WORDS or variable in self.graph.trainable):
                break
        else:
            return None
        # `training/Adam/dense/kernel/m`: what an optimizer keeps of its own lies in `training/Adam`.
        if number:
            self._scopes.add(_PART.sub("", scope)[: -len(variable) - 1])
        return variable

    def add_optimizer_state(self, roles: dict[str, Role]) -> None:
        """Scalars that lie directly in a scope where an optimizer's slots were found are its own state."""
        for name, (_, shape) in self.heads.items():
            scope, _, _ = name.rpartition("/")
            if scope in self._scopes and not shape and name not in self.graph.trainable:
                roles[name] = "bookkeeping"


def _inner_names(scope: str) -> Iterator[str]:
    """`a/b/c`, `b/c`, `c`: slots may be made in a scope of their own, with the variable's name inside."""
    scope = _PART.sub("", scope)
    yield scope
    while "/" in scope:
        scope = scope.partition("/")[2]
        yield scope


def _object_roles(reader: CheckpointReader, heads: Heads) -> dict[str, Role]:
    """What the object graph says of the tensors there are; nothing if it cannot be read."""
    try:
        graph = read_object_graph(reader)
    except CheckpointError:
        return {}
    found = {} if graph is None else _Objects(graph, heads).roles()
    return {name: role for name, role in found.items() if name in heads}


class _Objects:
    """The object graph, asked about optimizers: objects with slot variables, or Keras 3's with a counter."""

    def __init__(self, graph: TrackableObjectGraph, heads: Heads) -> None:
        self._nodes = graph.nodes
        self._heads = heads

    def roles(self) -> dict[str, Role]:
        found: dict[str, Role] = {}
        for node in self._nodes:
            children = {child.local_name: child.node_id for child in node.children}
            for slot in node.slot_variables:
                role: Role = "average" if slot.slot_name == "average" else "slot"
                found.update(dict.fromkeys(self._keys(slot.slot_variable_node_id), role))
                found.update(dict.fromkeys(self._keys(slot.original_variable_node_id), "weight"))
            if "_iterations" in children:
                found.update(self._keras_state(children))
            if node.slot_variables or "_iterations" in children:
                own = (key for child in children.values() for key in self._keys(child))
                found.update((key, "bookkeeping") for key in own if self._is_scalar(key))
        return found

    def _is_scalar(self, key: str) -> bool:
        return key in self._heads and not self._heads[key][1]

    def _keras_state(self, children: Mapping[str, int]) -> dict[str, Role]:
        """Of Keras 3's optimizers: what they keep is in lists of their own, beside the model's variables."""
        found: dict[str, Role] = {}
        # Averages and weights last: they are in `_variables` too.
        for name in sorted(children, key=lambda name: name in _KERAS_LISTS):
            role = _KERAS_LISTS.get(name, "slot")
            for member in self._children(children[name]) if name.startswith("_") else ():
                found.update(dict.fromkeys(self._keys(member), role))
        return found

    def _children(self, node: int) -> list[int]:
        if not 0 <= node < len(self._nodes):
            return []
        return [child.node_id for child in self._nodes[node].children]

    def _keys(self, node: int) -> list[str]:
        if not 0 <= node < len(self._nodes):
            return []
        return [attribute.checkpoint_key for attribute in self._nodes[node].attributes]
