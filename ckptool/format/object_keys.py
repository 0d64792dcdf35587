"""Keys of object-based checkpoints: the path of an object, then the attribute that holds its value.

Source: tensorflow/python/trackable/trackable_utils.py (object_path_to_string, slot_variable_key,
checkpoint_key).
"""

from __future__ import annotations

from ckptool.typed import NamedTuple

OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
ATTRIBUTES_MARK = "/.ATTRIBUTES/"
VALUE_SUFFIX = ATTRIBUTES_MARK + "VARIABLE_VALUE"
ITERATOR_SUFFIX = ATTRIBUTES_MARK + "ITERATOR_STATE"
SLOT_MARK = "/.OPTIMIZER_SLOT/"


class SlotKey(NamedTuple):
    """The parts of a slot variable's key: paths of the variable and of its optimizer, name of the slot."""

    variable: str
    optimizer: str
    slot: str


def split_slot_key(key: str) -> SlotKey:
    """The parts of a key that holds SLOT_MARK."""
    variable, _, rest = key.partition(SLOT_MARK)
    optimizer, _, slot = rest.removesuffix(VALUE_SUFFIX).rpartition("/")
    return SlotKey(variable, optimizer, slot)


def friendly_name(key: str) -> str:
    """The path of the object alone where the key is that of a variable's value; other keys as they are."""
    return key.removesuffix(VALUE_SUFFIX) or key
