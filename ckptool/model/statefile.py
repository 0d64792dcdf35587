"""The `checkpoint` file of a directory, and what the paths in it lead to."""

from __future__ import annotations

import os

from ckptool.errors import CheckpointError, CorruptionError
from ckptool.format.filenames import (
    STATE_NAME,
    index_path,
    parse_v1_pattern,
    recorded_name,
    v1_shard_path,
)
from ckptool.typed import TYPE_CHECKING, NamedTuple
from ckptool.wire.files import exists, file_size, open_input, read_file

if TYPE_CHECKING:
    from ckptool.format.state import CheckpointState

MAX_STATE_SIZE = 64 << 20  # bytes; 10,000 checkpoints take one or two million
_SHARDS_TRIED = 1000


class Resolved(NamedTuple):
    """What a recorded path leads to; `moved` if it was found beside the state file instead."""

    prefix: str
    found: bool
    moved: bool


def state_path(directory: str, latest_filename: str | None = None) -> str:
    """Where the state file of a directory is."""
    return os.path.join(directory, latest_filename or STATE_NAME)


def read_state(path: str) -> CheckpointState:
    """The contents of a state file.

    Raises:
        CorruptionError: malformed (line and column are in the message), or it names no checkpoint.
        FileError: it cannot be read.
    """
    return parse_state_file(path, read_file(path, MAX_STATE_SIZE))


def parse_state_file(path: str, data: bytes) -> CheckpointState:
    """What `data`, the contents of the state file at `path`, says; raises like `read_state`."""
    from ckptool.format.state import parse_state

    try:
        return parse_state(data)
    except CheckpointError as exc:
        from ckptool.model.foreign import recognise

        with open_input(path) as file:
            foreign = recognise(file, text=False)
        if foreign is None:
            raise exc.locate(path=path) from exc
        raise CorruptionError(f"{foreign.fault} ({exc.fault})", path=path, remedy=foreign.remedy) from exc


def find_state(directory: str, latest_filename: str | None = None) -> CheckpointState | None:
    """The state of a directory, None where it has no such file (or a directory of that name)."""
    path = state_path(directory, latest_filename)
    data = state_bytes(path)
    return None if data is None else parse_state_file(path, data)


def state_bytes(path: str) -> bytes | None:
    """The contents of a state file, None if there is no such file; FileError if it cannot be read."""
    return None if file_size(path) is None else read_file(path, MAX_STATE_SIZE)


def resolve_recorded(directory: str, recorded: str) -> Resolved:
    """The prefix that a path recorded in `directory`'s state file stands for.

    Relative paths count from the directory, without normalisation, as in TensorFlow. If
    nothing is there, a checkpoint of the path's last component in the directory is taken:
    the directory was moved or copied, perhaps from Windows.
    """
    prefix = os.path.join(directory, recorded)
    if prefix_exists(prefix):
        return Resolved(prefix, found=True, moved=False)
    name = recorded_name(recorded)
    beside = os.path.join(directory, name)
    if name and beside != prefix and prefix_exists(beside):
        return Resolved(beside, found=True, moved=True)
    return Resolved(prefix, found=False, moved=False)


def prefix_exists(prefix: str) -> bool:
    """Whether anything is at `P.index` or `P`, or at a shard of the V1 pattern `P`, whatever it is."""
    if exists(index_path(prefix)) or exists(prefix):
        return True
    pattern = parse_v1_pattern(prefix)
    if pattern is None:
        return False
    name, count = pattern
    return any(exists(v1_shard_path(name, shard, count)) for shard in range(min(count, _SHARDS_TRIED)))
