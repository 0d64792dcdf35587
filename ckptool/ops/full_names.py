"""The names that variables had in TensorFlow, beside the keys they were saved under."""

from __future__ import annotations

from ckptool.errors import CheckpointError
from ckptool.model.graphs import read_object_graph
from ckptool.model.reader import CheckpointReader


def full_names(reader: CheckpointReader) -> dict[str, str]:
    """Key -> name of the variable (`dense/kernel`), by the object graph; none if that cannot be read."""
    try:
        graph = read_object_graph(reader)
    except CheckpointError:
        return {}
    attributes = (a for node in graph.nodes for a in node.attributes) if graph is not None else ()
    return {attribute.checkpoint_key: attribute.full_name for attribute in attributes if attribute.full_name}
