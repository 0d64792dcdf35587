"""verify against TensorFlow: what it reads is sound, what it refuses is damaged."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ckptool import verify_checkpoint
from tests.interop.examples import checkpoint_prefixes
from tests.oracle import FIXTURES, checkpoints

PREFIXES = [*(found.prefix for found in checkpoints()), *checkpoint_prefixes()]

# What TensorFlow refuses of a tensor although nothing is wrong with it; verify warns, or it is no damage.
NO_DAMAGE = (
    "not convertible to numpy", "Data type not supported", "Sliced checkpoints are not supported",
    "not supported", "No compatible", "Byte-swapping",
)  # fmt: skip


def refusal(prefix: str, keys: list[str]) -> str | None:
    """Why TensorFlow's reader cannot give one of these tensors; None if it gives all."""
    try:
        reader = tf.compat.v1.train.NewCheckpointReader(prefix)
    except Exception as exc:  # noqa: BLE001 - of whatever class
        return str(exc)
    for key in keys:
        try:
            reader.get_tensor(key)
        except Exception as exc:  # noqa: BLE001
            if not any(words in str(exc) for words in NO_DAMAGE):
                return str(exc)
    return None


def names_of(prefix: str) -> list[str]:
    from ckptool import load_checkpoint

    with load_checkpoint(prefix) as reader:
        return [tensor.name for tensor in reader.tensors() if tensor.name.isprintable()]


@pytest.mark.parametrize("prefix", PREFIXES, ids=os.path.basename)
def test_the_verdict_is_that_of_tensorflow(prefix: str) -> None:
    (found,) = verify_checkpoint(prefix).checkpoints
    refused = refusal(prefix, names_of(prefix))
    assert found.ok is (refused is None), (refused, found.problems)


VICTIMS = [
    ("tutorial-w1-w2", "my_test_model-1000", ".index"),
    ("tutorial-w1-w2", "my_test_model-1000", ".data-00000-of-00001"),
    ("sharded", "model.ckpt-42", ".index"),
    ("v1-single", "model.ckpt", ""),
]


@pytest.mark.parametrize(("case", "name", "suffix"), VICTIMS)
def test_what_tensorflow_refuses_is_damaged(tmp_path: Path, case: str, name: str, suffix: str) -> None:
    """Changed bytes: where TensorFlow objects, verify does. Not the other way round: it looks at more."""
    folder = Path(shutil.copytree(FIXTURES / case, tmp_path / case))
    file = next(folder.glob(f"{name}*{suffix}")) if suffix else next(folder.glob(name + "*"))
    prefix = str(folder / name) if suffix else str(file)
    original, names = file.read_bytes(), names_of(prefix)
    rng = random.Random(4)
    refusals = 0
    for _ in itertools.repeat(None, 60):
        at = rng.randrange(len(original))
        file.write_bytes(original[:at] + bytes((original[at] ^ 1 << rng.randrange(8),)) + original[at + 1 :])
        if in_child(prefix, names):
            refusals += 1
            assert not verify_checkpoint(prefix).ok, at
    assert refusals


def in_child(prefix: str, names: list[str]) -> bool:
    """Whether TensorFlow refuses; in a process of its own, because it may abort."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if refusal(prefix, names) is None else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0


def test_a_fresh_checkpoint_is_sound(tmp_path: Path) -> None:
    values = {"a": tf.Variable(np.arange(5.0)), "b": tf.Variable([["x", "yy"]])}
    saved = tf.train.Checkpoint(**values).save(str(tmp_path / "ckpt"))
    result = verify_checkpoint(tmp_path, strict=True)
    assert result.ok, result
    assert [c.checkpoint for c in result.checkpoints] == [saved]
