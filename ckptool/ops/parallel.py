"""Work spread over threads: the order kept, little of it waiting in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

from ckptool.wire.cpus import available_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")

_WAITING_PER_JOB = 2


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int | None = None,
    executor: Executor | None = None,
) -> Iterator[Result]:
    """`function` of each item, in the order of the items, several at a time.

    `jobs` threads (by default one for each core), or the workers of `executor`, to which
    function and items must then be sent. No more than twice as many items as jobs are
    begun and not yet taken. An exception of the function comes up at its item's turn;
    what has not begun by then is not begun any more.
    """
    jobs = jobs or available_cpus()
    if jobs == 1 and executor is None:
        yield from map(function, items)
        return
    with ExitStack() as stack:
        pool = executor or stack.enter_context(ThreadPoolExecutor(jobs))
        waiting: deque[Future[Result]] = deque()
        stack.callback(lambda: [future.cancel() for future in waiting])
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= jobs * _WAITING_PER_JOB:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
