"""`--dask`: a real cluster of two workers on loopback says what this process says by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ckptool import save_checkpoint, verify_checkpoint
from ckptool.ops import cluster as cluster_module
from ckptool.ops import verify_data
from ckptool.ops.cluster import dask_executor
from tests.cli.runner import FIXTURES, execute, run

SHARDED = FIXTURES / "sharded" / "model.ckpt-42"

# A warning that is an error would end whichever of Dask's threads happens to come across it: its event
# loops do not start then, and clients neither.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A scheduler here, and two workers that are processes of their own and restarted when they die."""
    from dask.distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
    ) as started:
        yield started


@pytest.fixture
def address(cluster: Any) -> str:
    return str(cluster.scheduler_address)


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", SHARDED],
        ["verify", FIXTURES / "tutorial-keep", "--json"],
        ["verify", FIXTURES / "v1-sharded", "--json"],
        ["verify", "--all", FIXTURES / "object-keras"],
        ["show", SHARDED, "--stats"],
        ["show", FIXTURES / "dtypes" / "dtypes", "--stats", "--json"],
        ["show", FIXTURES / "v1-single", "--stats"],
        ["diff", SHARDED, FIXTURES / "no-meta" / "model.ckpt"],
        ["diff", SHARDED, SHARDED, "--exact"],
        ["diff", FIXTURES / "dtypes" / "dtypes", FIXTURES / "big-endian" / "big", "--json"],
        ["diff", FIXTURES / "strings", FIXTURES / "strings", "--exact", "-q"],
    ],
    ids=lambda arguments: " ".join(Path(argument).name for argument in arguments),
)
def test_the_same_output(address: str, arguments: list[Any]) -> None:
    here, there = run(*arguments), run(*arguments, "--dask", address)
    assert (there.exit_code, there.stdout) == (here.exit_code, here.stdout)
    assert there.stderr == here.stderr


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tensor of 256 MB, which is 16 tasks of `verify`."""
    prefix = tmp_path_factory.mktemp("large") / "model.ckpt"
    save_checkpoint(prefix, {"wide": np.arange(1 << 26, dtype="f4")})
    return prefix


class _Counting(Executor):
    """Hands everything on, and counts."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.submitted = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        return self._executor.submit(*args, **kwargs)


def test_one_tensor_is_shared_out(address: str, large: Path) -> None:
    with dask_executor(address) as executor:
        counting = _Counting(executor)
        assert verify_checkpoint(large, executor=counting).ok
    assert counting.submitted == 16


def test_a_worker_that_dies_changes_nothing(
    cluster: Any, address: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two is killed while it works; what it had to do is done again."""
    monkeypatch.setattr(verify_data, "RANGE_SIZE", 1 << 20)
    begun = threading.Event()
    victim = next(iter(cluster.workers.values())).pid  # of the process that its nanny looks after

    def kill() -> None:
        begun.wait(60)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    found = verify_checkpoint(large)
    with dask_executor(address) as executor:
        there = verify_checkpoint(large, executor=executor, progress=lambda _size: begun.set())
    killer.join()
    assert begun.is_set()
    assert there == found
    assert there.ok


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_PATIENCE", 1)
    failed = run("verify", SHARDED, "--dask", "tcp://127.0.0.1:9")
    assert failed.exit_code == 2
    assert "tcp://127.0.0.1:9: no scheduler of Dask answers there; --dask takes the address" in failed.stderr


@pytest.mark.parametrize("wrong", ["nonsense://x", "127.0.0.1:not-a-port", ""])
def test_no_address(wrong: str) -> None:
    failed = run("verify", SHARDED, "--dask", wrong)
    assert failed.exit_code == 2
    assert failed.stderr.count("\n") == 1
    assert "internal error" not in failed.stderr


def test_no_workers(tmp_path: Path) -> None:
    place = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options]
    alone = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not place.exists() or not place.read_text().strip().endswith("}"):
            assert alone.poll() is None
            time.sleep(0.01)
        # A process of its own, as it is for users: here, clients that found nobody have left their loops.
        failed = execute("verify", SHARDED, "--dask", json.loads(place.read_text())["address"])
    finally:
        alone.terminate()
        alone.wait()
    assert failed.returncode == 2
    assert b"the cluster has no workers" in failed.stderr


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    failed = run("verify", SHARDED, "--dask", "tcp://127.0.0.1:9")
    assert failed.exit_code == 2
    assert "--dask needs a package; pip install 'ckptool[dask]'" in failed.stderr


def test_show_takes_it_with_stats_only() -> None:
    failed = run("show", SHARDED, "--dask", "tcp://127.0.0.1:9")
    assert failed.exit_code == 2
    assert "--dask goes with --stats" in failed.stderr
