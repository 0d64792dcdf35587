"""Checks of a state file: that it can be read, and that what it names is there."""

from __future__ import annotations

import os
from collections.abc import Collection
from itertools import pairwise

from ckptool.errors import CheckpointError, FileError
from ckptool.format.state import CheckpointState
from ckptool.model.statefile import find_state, resolve_recorded, state_path
from ckptool.ops.problems import Report

_NAMES_SHOWN = 10


def check_state(directory: str, found: Collection[str], report: Report) -> list[str]:
    """Check the state file of `directory`, which may be absent, against the prefixes `found` there.

    Returns the prefixes that it names and that exist, whatever is at them.
    """
    path = state_path(directory)
    try:
        state = find_state(directory)
    except FileError as exc:
        report.add_error("unreadable", exc)
        return []
    except CheckpointError as exc:
        report.add_error("state-unreadable", exc.locate(path=path))
        return []
    if state is None:
        return []
    _check_lists(state, path, report)
    latest = state.model_checkpoint_path
    prefixes = [
        _check_path(directory, recorded, path, report, is_latest=recorded == latest)
        for recorded in dict.fromkeys((*state.all_model_checkpoint_paths, latest))
    ]
    named = [prefix for prefix in prefixes if prefix is not None]
    _check_unlisted(named, found, path, report)
    return named


def _check_lists(state: CheckpointState, path: str, report: Report) -> None:
    paths, times = state.all_model_checkpoint_paths, state.all_model_checkpoint_timestamps
    faults = []
    if paths and paths[-1] != state.model_checkpoint_path:
        faults.append("the latest checkpoint is not the last of all_model_checkpoint_paths")
    if len(set(paths)) < len(paths):
        faults.append("a checkpoint is listed twice")
    if times and len(times) != len(paths):
        faults.append(f"{len(times)} timestamps for {len(paths)} checkpoints")
    if not all(a <= b for a, b in pairwise(times)):
        faults.append("the timestamps are not in order")
    for fault in faults:
        report.add("state-inconsistent", fault, file=path)


def _check_path(directory: str, recorded: str, path: str, report: Report, *, is_latest: bool) -> str | None:
    """The prefix that a recorded path leads to, None if nothing is there."""
    resolved = resolve_recorded(directory, recorded)
    if resolved.moved:
        # TensorFlow looks only where the file says, and finds nothing.
        fault = f"{recorded} is not there, but {resolved.prefix} is; ckptool latest --fix mends that"
        report.add("state-absolute-path", fault, file=path)
        return resolved.prefix
    if not resolved.found:
        code = "state-missing-file" if is_latest else "state-stale-entry"
        report.add(code, f"{recorded} is not there", file=path)
        return None
    if os.path.isabs(recorded) and os.path.dirname(recorded) != os.path.abspath(directory or "."):
        report.add("state-absolute-path", f"{recorded} is outside of the directory", file=path)
    return resolved.prefix


def _check_unlisted(named: Collection[str], found: Collection[str], path: str, report: Report) -> None:
    listed = {os.path.abspath(prefix) for prefix in named}
    names = [os.path.basename(prefix) for prefix in found if os.path.abspath(prefix) not in listed]
    if names:
        shown = ", ".join(names[:_NAMES_SHOWN])
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        report.add("state-unlisted", f"{len(names)} checkpoints are not listed: {shown}{more}", file=path)
