"""Roles: from the fixtures' object graphs, their .meta, and names alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

import pytest

from ckptool.errors import CheckpointError
from ckptool.format.proto.meta_graph_pb2 import MetaGraphDef
from ckptool.format.proto.variable_pb2 import VariableDef
from ckptool.model.reader import CheckpointReader
from ckptool.ops.roles import find_roles
from tests.oracle import FIXTURES
from tests.tables import bundle_index, entry

FLOAT, INT64 = 1, 9
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def roles_of(path) -> dict[str, str]:
    with CheckpointReader(path) as reader:
        return dict(find_roles(reader))


@pytest.fixture
def named(tmp_path):
    """Finds the roles of tensors (name -> shape, float but for `integers`) that have nothing but an index."""

    def find(
        shapes: Mapping[str, Sequence[int]], integers: Sequence[str] = (), **collections
    ) -> dict[str, str]:
        entries = {
            name.encode(): entry(INT64 if name in integers else FLOAT, shape)
            for name, shape in shapes.items()
        }
        (tmp_path / "m.index").write_bytes(bundle_index(entries))
        if collections:
            graph = MetaGraphDef()
            for collection, names in collections.items():
                values = [VariableDef(variable_name=f"{name}:0").SerializeToString() for name in names]
                graph.collection_def[collection].bytes_list.value.extend(values)
            (tmp_path / "m.meta").write_bytes(graph.SerializeToString())
        return roles_of(tmp_path / "m")

    return find


def adam_role(name: str) -> str:
    if name.endswith(("/Adam", "/Adam_1")):
        return "slot"
    if name.endswith("/ExponentialMovingAverage"):
        return "average"
    return "bookkeeping" if name in ("global_step", "beta1_power", "beta2_power") else "weight"


def test_saver_checkpoint_with_and_without_its_graph(tmp_path):
    with_graph = roles_of(FIXTURES / "optimizer-slots")
    assert with_graph == {name: adam_role(name) for name in with_graph}
    assert with_graph["batch_normalization/moving_mean"] == "weight"
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(FIXTURES / "optimizer-slots" / f"model.ckpt-3{suffix}", tmp_path)
    assert roles_of(tmp_path / "model.ckpt-3") == with_graph
    (tmp_path / "model.ckpt-3.meta").write_bytes(b"\xff\xfe no graph")
    assert roles_of(tmp_path / "model.ckpt-3") == with_graph


KERAS = {
    "_CHECKPOINTABLE_OBJECT_GRAPH": "bookkeeping",
    f"optimizer/_iterations{VALUE}": "bookkeeping",
    f"optimizer/_learning_rate{VALUE}": "bookkeeping",
    **{f"optimizer/_trainable_variables/{i}{VALUE}": "weight" for i in range(4)},
    **{f"optimizer/_variables/{i}{VALUE}": "slot" for i in range(2, 10)},
    f"save_counter{VALUE}": "bookkeeping",
    f"step{VALUE}": "bookkeeping",
}
SLOTS = {
    "_CHECKPOINTABLE_OBJECT_GRAPH": "bookkeeping",
    **{f"net/{name}{VALUE}": "weight" for name in ("bias", "weight")},
    **{f"net/{n}/.OPTIMIZER_SLOT/optimizer/{s}{VALUE}": "slot" for n in ("bias", "weight") for s in "mv"},
    **{f"optimizer/beta{i}_power{VALUE}": "bookkeeping" for i in (1, 2)},
}


@pytest.mark.parametrize(
    ("case", "prefix", "expected"),
    [("object-keras", "ckpt-3", KERAS), ("object-slots", "slots", SLOTS)],
)
def test_object_based_checkpoint_with_and_without_its_object_graph(tmp_path, case, prefix, expected):
    assert roles_of(FIXTURES / case / prefix) == expected
    # The data shard holds the object graph: without it only the names are left.
    shutil.copy(FIXTURES / case / f"{prefix}.index", tmp_path)
    assert roles_of(tmp_path / prefix) == expected


def test_tables_are_weights_and_iterators_are_not():
    roles = roles_of(FIXTURES / "object-tree")
    others = {name for name, role in roles.items() if role != "weight"}
    assert others == {
        "_CHECKPOINTABLE_OBJECT_GRAPH", "iterator/.ATTRIBUTES/ITERATOR_STATE", f"save_counter{VALUE}",
    }  # fmt: skip


@pytest.mark.parametrize(
    "slot",
    ["Adam", "Adam_1", "adam_m", "adam_v", "BERTAdam", "RMSProp", "RMSProp_1", "Momentum", "Adagrad",
     "Adadelta", "Adadelta_1", "Ftrl", "Ftrl_1", "accum_grad", "accum_var", "m", "v", "vhat", "accumulator"],
)  # fmt: skip
def test_slot_names_count_only_where_their_variable_is(named, slot):
    roles = named({"net/w": (2, 3), f"net/w/{slot}": (2, 3), f"lost/w/{slot}": (5,)})
    assert roles == {"net/w": "weight", f"net/w/{slot}": "slot", f"lost/w/{slot}": "weight"}


def test_object_slots_count_only_where_their_variable_is(named):
    slot = f"/.OPTIMIZER_SLOT/opt/momentum{VALUE}"
    assert named({f"w{VALUE}": (2,), f"w{slot}": (2,), f"x{slot}": (2,)}) == {
        f"w{VALUE}": "weight", f"w{slot}": "slot", f"x{slot}": "weight",
    }  # fmt: skip


def test_layers_may_be_called_like_slots(named):
    shapes = {"attention/m": (4,), "attention/v": (4,), "v": (4,), "momentum/w": (4,), "adam": (4,)}
    assert set(named(shapes).values()) == {"weight"}


def test_words_of_keras_count_only_in_the_shape_of_the_variable(named):
    assert named({"w": (4, 2), "w/linear": (4, 2), "w/v": (7,)}) == {
        "w": "weight", "w/linear": "slot", "w/v": "weight",
    }  # fmt: skip


def test_slots_in_the_scope_of_their_optimizer(named):
    shapes = {
        "training/Adagrad/decay": (),
        "training/Adagrad/dnn/kernel/accumulator": (3, 2),
        "training/dnn/kernel/Adam": (3, 2),
        "dnn/kernel": (3, 2),
        "dnn/scale": (),
        "x/dnn/kernel/Adam": (9,),
    }
    roles = named(shapes)
    assert {name for name, role in roles.items() if role == "slot"} == {
        "training/Adagrad/dnn/kernel/accumulator", "training/dnn/kernel/Adam",
    }  # fmt: skip
    assert {name for name, role in roles.items() if role == "bookkeeping"} == {"training/Adagrad/decay"}


def test_slots_of_partitioned_variables_and_beside_variables(named):
    shapes = {"w": (4,), "w/t_0/Adagrad": (4,), "w/part_1/Adam": (4,), "w_slot_vr": (2,), "x_slot_vc": (2,)}
    assert [name for name, role in named(shapes).items() if role == "slot"] == [
        "w/part_1/Adam", "w/t_0/Adagrad", "w_slot_vr",
    ]  # fmt: skip


def test_counters_are_integer_scalars(named):
    shapes = {
        "step": (),
        "net/step": (),
        "epoch": (2,),
        "global_step": (),
        "beta1_power_1": (),
        "a/save_counter": (),
    }
    roles = named(shapes, integers=("step", "epoch"))
    assert {name for name, role in roles.items() if role == "weight"} == {"net/step", "epoch"}


def test_the_graph_tells_what_names_do_not(named):
    shapes = {
        "w": (2,),
        "w/Mine": (2,),
        "w/u": (9,),
        "b": (2,),
        "b/mean": (2,),
        "w/Adam": (2,),
        "n": (),
        "t": (),
    }
    roles = named(
        shapes,
        trainable_variables=["w", "b", "w/Adam", "t"],
        moving_average_variables=["b"],
        global_step=["n"],
        integers=("n",),
    )
    weights = dict.fromkeys(("w", "w/u", "b", "w/Adam", "t"), "weight")
    assert roles == {**weights, "w/Mine": "slot", "b/mean": "average", "n": "bookkeeping"}


def test_a_trainable_global_step_is_still_bookkeeping(named):
    assert named({"global_step": (), "w": ()}, trainable_variables=["global_step", "w"]) == {
        "global_step": "bookkeeping", "w": "weight",
    }  # fmt: skip


@pytest.mark.parametrize(
    "path", sorted(FIXTURES.glob("*/*.index")) + sorted(FIXTURES.glob("v1-*/*.ckpt")), ids=str
)
def test_every_tensor_has_a_role(path):
    try:
        reader = CheckpointReader(path)
    except CheckpointError:
        pytest.fail(f"{path} cannot be opened")
    with reader:
        assert set(find_roles(reader)) == {tensor.name for tensor in reader.tensors()}
