"""Roles of what TensorFlow's own optimizers save, by every kind of evidence and by names alone."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf

from ckptool.model.reader import CheckpointReader
from ckptool.ops.roles import find_roles

v1 = tf.compat.v1
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"

OPTIMIZERS = {
    "adam": lambda: v1.train.AdamOptimizer(0.1),
    "named": lambda: v1.train.AdamOptimizer(0.1, name="Mine"),
    "rmsprop": lambda: v1.train.RMSPropOptimizer(0.1, momentum=0.9),
    "centered": lambda: v1.train.RMSPropOptimizer(0.1, centered=True),
    "momentum": lambda: v1.train.MomentumOptimizer(0.1, 0.9),
    "adagrad": lambda: v1.train.AdagradOptimizer(0.1),
    "adadelta": lambda: v1.train.AdadeltaOptimizer(0.1),
    "ftrl": lambda: v1.train.FtrlOptimizer(0.1),
    "proximal": lambda: v1.train.ProximalAdagradOptimizer(0.1),
    "descent": lambda: v1.train.GradientDescentOptimizer(0.1),
}


def roles_of(prefix) -> dict[str, str]:
    with CheckpointReader(prefix) as reader:
        return dict(find_roles(reader))


@pytest.mark.parametrize("scope", ["", "training"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_of_tensorflow_1(name, scope, tmp_path):
    prefix = str(tmp_path / "m")
    with tf.Graph().as_default():
        step = v1.train.get_or_create_global_step()
        variables = [v1.get_variable(f"net/{n}", initializer=np.ones((3, 2), "f4")) for n in ("w", "v", "m")]
        statistics = v1.get_variable("bn/moving_mean", initializer=np.ones(3, "f4"), trainable=False)
        optimizer = OPTIMIZERS[name]()
        with v1.variable_scope(scope) if scope else v1.name_scope(""):
            optimizer.minimize(sum(map(tf.reduce_sum, variables)), global_step=step)
        names = optimizer.get_slot_names()
        slots = {optimizer.get_slot(v, s).op.name for v in variables for s in names}
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, prefix)
        weights = {v.op.name for v in [*variables, statistics]}
    found = roles_of(prefix)
    assert {n for n, role in found.items() if role == "slot"} == slots
    assert {n for n, role in found.items() if role == "weight"} == weights
    if name != "named":  # a name of one's own says nothing without the graph
        os.unlink(prefix + ".meta")
        assert roles_of(prefix) == found


# Slots that each keeps of a variable.
KERAS = {
    "Adam": 2, "Adamax": 2, "AdamW": 2, "Nadam": 2, "RMSprop": 1, "Adagrad": 1, "Adadelta": 2, "Ftrl": 2,
    "Lion": 1, "Adafactor": 3, "SGD": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", KERAS)
@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_optimizers_of_keras(name, ema, scaled, tmp_path):
    keras = tf.keras
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    arguments = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(keras.optimizers, name)(use_ema=ema, **arguments)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    prefix = tf.train.Checkpoint(model=model, optimizer=optimizer).save(str(tmp_path / "m"))
    found = roles_of(prefix)
    counts = {role: sum(1 for r in found.values() if r == role) for role in found.values()}
    trainable = len(model.trainable_variables)
    assert counts.get("average", 0) == (trainable if ema else 0)
    assert counts["weight"] == trainable + 2  # and the statistics of batch normalization
    assert counts.get("slot", 0) == KERAS[name] * trainable
    # Without the shard there is no object graph: names tell the weights, and take no weight for a slot.
    os.unlink(prefix + ".data-00000-of-00001")
    alone = roles_of(prefix)
    assert {n for n, role in alone.items() if role == "weight"} == {
        n for n, r in found.items() if r == "weight"
    }


def test_averages_with_a_name_of_their_own(tmp_path):
    prefix = str(tmp_path / "m")
    with tf.Graph().as_default():
        w = v1.get_variable("w", initializer=np.ones(3, "f4"))
        average = tf.train.ExponentialMovingAverage(0.9, name="Shadow")
        update = average.apply([w])
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run(update)
            v1.train.Saver().save(session, prefix)
    assert roles_of(prefix) == {"w": "weight", "w/Shadow": "average"}


def test_partitioned_variables(tmp_path):
    prefix = str(tmp_path / "m")
    with tf.Graph().as_default():
        w = v1.get_variable(
            "w", (10, 4), partitioner=v1.fixed_size_partitioner(3), initializer=v1.ones_initializer()
        )
        v1.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(w))
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, prefix)
    found = roles_of(prefix)
    assert found["w"] == "weight"
    assert {n for n, role in found.items() if role == "slot"} == {"w/Adam", "w/Adam_1"}
