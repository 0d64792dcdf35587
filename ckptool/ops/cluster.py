"""The executor of a Dask cluster."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

from ckptool.errors import RequestError, UnsupportedError

_PATIENCE = 10  # seconds until a scheduler has to have answered
_RETRIES = 2  # of a task that failed for reasons of its worker


@contextlib.contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """The executor of the cluster whose scheduler is at `address`, connected within the block.

    Raises:
        UnsupportedError: Dask is not installed.
        RequestError: nobody answers there, or there are no workers.
    """
    try:
        import dask.distributed
    except ImportError as exc:
        raise UnsupportedError("--dask needs a package", remedy="pip install 'ckptool[dask]'") from exc
    connect: Any = dask.distributed.Client
    # What the cluster says of itself is for those who look after it.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = connect(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError) as exc:
        raise RequestError(
            "no scheduler of Dask answers there",
            path=address,
            remedy="--dask takes the address that 'dask scheduler' prints, such as tcp://host:8786",
        ) from exc
    try:
        if not client.scheduler_info()["workers"]:
            raise RequestError("the cluster has no workers", path=address, remedy="start some: dask worker")
        yield client.get_executor(pure=False, retries=_RETRIES)
    finally:
        with contextlib.suppress(Exception):  # what it was for is done
            client.close(timeout=_PATIENCE)
