"""What is to be verified: the checkpoints that paths name, damaged beyond recognition or not."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ckptool.errors import CheckpointError, FileError, NoCheckpointError
from ckptool.format.filenames import (
    INDEX_SUFFIX,
    META_SUFFIX,
    STATE_NAME,
    index_path,
    last_component,
    parse_data_name,
    parse_v1_pattern,
    parse_v1_shard,
    v1_pattern,
)
from ckptool.format.sstable import is_table
from ckptool.model.location import Location, split_path, v2_location
from ckptool.ops.problems import Problem, Report
from ckptool.wire.files import StrPath, file_size, is_directory, list_directory, open_input

_HEAD = 1 << 16

_LEFTOVERS = {
    "temporary": "a file that was not finished",
    "temporary-directory": "the parts of a save that was not finished",
    "pruned": "a checkpoint that was being removed",
    "data-without-index": "data shards without an index",
}


class Targets:
    """Checkpoints to look at, each once, and what is wrong with the directories they were looked for in.

    Attributes:
        found: by absolute prefix.
        report: of directories: their state files and leftovers.
    """

    def __init__(self) -> None:
        self.found: dict[str, Location] = {}
        self.report = Report()

    @property
    def checkpoints(self) -> list[Location]:
        """In the order found."""
        return list(self.found.values())

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Of directories."""
        return self.report.problems

    @property
    def bytes(self) -> int:
        """Of all files of all checkpoints."""
        return sum(file_size(path) or 0 for location in self.checkpoints for path in location.files)

    def add(self, location: Location) -> None:
        """One more checkpoint, unless it is there already."""
        self.found.setdefault(os.path.abspath(location.prefix), location)


def find_targets(paths: Iterable[StrPath]) -> Targets:
    """The checkpoints that `paths` name in any form; for a directory all in it.

    Raises:
        NotFoundError, RequestError: nothing is there, or nothing that could be a checkpoint.
        NoCheckpointError: a directory with nothing to verify.
        FileError: a directory that cannot be read.
    """
    targets = Targets()
    for given in paths:
        path = os.fspath(given)
        location = None if path.endswith("/") else _checkpoint(path, targets.report)
        if location is not None:
            targets.add(location)
        elif is_directory(path):
            _add_directory(path, targets)
        elif not _is_state(path):
            targets.add(_locate(path))
    return targets


def _locate(path: str) -> Location:
    # Here and below, not above: a checkpoint named by its prefix is most of what is asked for, and these
    # modules take as long to import as a gigabyte to check.
    from ckptool.model.locate import locate

    return locate(path)


def _checkpoint(path: str, report: Report) -> Location | None:
    """The checkpoint that `path` names, whatever its files hold; None for a directory, and for nothing."""
    if file_size(index_path(path)) is not None:
        return v2_location(path)
    if (pattern := parse_v1_pattern(path)) is not None:
        return _v1_set(*pattern)
    if file_size(path) is not None:
        return _by_file(path, report)
    if is_directory(path):
        return None
    directory, name = split_path(path)
    names = _names(directory)
    if any(shard and shard.prefix == name for shard in map(parse_data_name, names)):
        return v2_location(path)
    counts = {shard.total for shard in map(parse_v1_shard, names) if shard and shard.prefix == name}
    return _v1_set(path, counts.pop()) if len(counts) == 1 else None


def _by_file(path: str, report: Report) -> Location | None:
    data = parse_data_name(path)
    if data is not None:
        return v2_location(data.prefix)
    if path.endswith(INDEX_SUFFIX):
        return v2_location(path.removesuffix(INDEX_SUFFIX))
    if path.endswith(META_SUFFIX):
        return _locate(path)
    shard = parse_v1_shard(path)
    if shard is not None:
        return _v1_set(shard.prefix, shard.total)
    if _is_state(path):
        return _latest(path, report)
    return Location(path, "V1", (path,))


def _is_state(path: str) -> bool:
    """Whether a file is a state file, or bears its name and is no checkpoint."""
    if file_size(path) is None:
        return False
    with open_input(path) as file:
        if is_table(file):
            return False
        head = file.read(0, min(file.size, _HEAD))
    return last_component(path) == STATE_NAME or b"model_checkpoint_path" in head


def _latest(path: str, report: Report) -> Location | None:
    """The latest checkpoint of a state file; None, and a problem, if the file cannot be read as one."""
    from ckptool.model.statefile import read_state

    try:
        read_state(path)
    except FileError:
        raise
    except CheckpointError as exc:
        report.add_error("state-unreadable", exc.locate(path=path))
        return None
    return _locate(path)


def _v1_set(prefix: str, count: int) -> Location | None:
    """The files there are of a sharded V1 checkpoint, in shard order; None if there are none."""
    directory, name = split_path(prefix)
    shards = [(s.shard, n) for n in _names(directory) if (s := parse_v1_shard(n)) and s[::2] == (name, count)]
    paths = tuple(directory + n for _, n in sorted(shards))
    return Location(v1_pattern(prefix, count), "V1", paths) if paths else None


def _names(directory: str) -> list[str]:
    try:
        return [entry.name for entry in list_directory(directory or ".")]
    except FileError:
        return []  # a directory may be open to those who know the names only


def _add_directory(directory: str, targets: Targets) -> None:
    """Every checkpoint in a directory, or the variables of a SavedModel."""
    from ckptool.model.discovery import discover
    from ckptool.model.leftovers import find_leftovers
    from ckptool.model.statefile import state_path
    from ckptool.ops.verify_state import check_state

    variables = os.path.join(directory, "variables", "variables")
    if file_size(os.path.join(directory, "saved_model.pb")) is not None:
        location = _checkpoint(variables, targets.report)
        if location is not None:
            targets.add(location)
            return
    before = len(targets.found), len(targets.problems)
    listing = list_directory(directory or ".")
    discovered = discover(directory, listing)
    for leftover in find_leftovers(directory, listing, discovered):
        fault = f"{_LEFTOVERS[leftover.kind]}; ckptool prune --leftovers removes it"
        path = os.path.join(directory, leftover.name)
        targets.report.add("leftover", fault, file=path, size=leftover.bytes)
    found = [c.location(directory) for c in discovered if c.is_checkpoint]
    for location in found:
        targets.add(location)
    for prefix in check_state(directory, [location.prefix for location in found], targets.report):
        # Damaged so much that it was not recognised, or somewhere else.
        named = None if is_directory(prefix) else _checkpoint(prefix, targets.report)
        if named is not None:
            targets.add(named)
    empty = (len(targets.found), len(targets.problems)) == before
    if empty and file_size(state_path(directory)) is None:
        raise NoCheckpointError("no checkpoint in this directory", path=directory)
