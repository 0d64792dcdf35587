"""Every checkpoint under a directory, however deep, one directory after another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from ckptool.errors import CheckpointError, NoCheckpointError, RequestError
from ckptool.ops.problems import Report
from ckptool.ops.verified import Verified
from ckptool.ops.verify import Progress, VerifyOptions, VerifyResult, result_of, verify_each
from ckptool.ops.verify_targets import Targets, find_targets
from ckptool.wire.files import StrPath, exists, is_directory, list_directory
from ckptool.wire.urls import forget


@dataclass
class TreeSummary:
    """What has been looked at so far.

    Attributes:
        directories: that were walked through.
        checkpoints: found in them; `skipped` are those that an earlier run found sound.
        sound, damaged: those that were looked at.
        bytes: of the tensors of those.
    """

    directories: int = 0
    checkpoints: int = 0
    skipped: int = 0
    sound: int = 0
    damaged: int = 0
    bytes: int = 0


@dataclass
class TreeCheck:
    """A walk through trees. Iterating gives the result of each directory that has checkpoints or problems.

    Attributes:
        options: how much is looked at.
        verified: what earlier runs have found, None to look at everything.
        summary: of what has been yielded.
    """

    options: VerifyOptions
    verified: Verified | None = None
    progress: Progress = lambda _size: None
    summary: TreeSummary = field(default_factory=TreeSummary)
    _seen: set[str] = field(default_factory=set)

    def walk(self, root: StrPath) -> Iterator[VerifyResult]:
        """The directories under `root` and itself, each before those in it, in the order of their names.

        Links to directories are not followed. A directory that cannot be read is a problem
        `unreadable`, and the walk goes on.

        Raises:
            RequestError: `root` is no directory.
            NoCheckpointError: at the end, if there was no checkpoint in it.
        """
        top = os.fspath(root)
        if not is_directory(top or "."):
            fault = "is no directory" if exists(top) else "no such directory"
            raise RequestError(fault, path=top, remedy="--all takes the directory to begin at")
        before = self.summary.checkpoints
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            self.summary.directories += 1
            result, below = self._look(directory)
            if result.checkpoints or result.problems:
                yield result
            waiting += reversed(below)
            # What servers have said of this directory is not needed for the others.
            forget()
        if self.summary.checkpoints == before:
            raise NoCheckpointError("no checkpoint under this directory", path=top)

    def _look(self, directory: str) -> tuple[VerifyResult, list[str]]:
        """What was found in one directory, and the directories in it."""
        try:
            entries = list_directory(directory or ".")
            below = [e.name for e in entries if e.is_directory and not e.is_symlink]
            targets = _targets(directory) if any(not e.is_directory for e in entries) else Targets()
        except CheckpointError as exc:
            report = Report()
            report.add_error("unreadable", exc)
            return VerifyResult(False, report.problems, ()), []
        result = self._verify(targets)
        leftovers = {
            os.path.basename(problem.file.rstrip("/")) for problem in result.problems if problem.file
        }
        return result, [os.path.join(directory, name) for name in below if name not in leftovers]

    def _verify(self, targets: Targets) -> VerifyResult:
        """Check those targets that no other directory has led to, and that are not known to be sound."""
        fresh = {key: location for key, location in targets.found.items() if key not in self._seen}
        self._seen.update(fresh)
        self.summary.checkpoints += len(fresh)
        if self.verified is not None:
            known = {key for key, place in fresh.items() if self.verified.knows(place, self.options)}
            self.summary.skipped += len(known)
            fresh = {key: place for key, place in fresh.items() if key not in known}
        marks = {}
        if self.verified is not None:
            # Taken before the bytes are read: what changes meanwhile is looked at again.
            marks = {place.prefix: self.verified.mark(place) for place in fresh.values()}
        found = []
        for checkpoint in verify_each(fresh.values(), self.options, self.progress):
            found.append(checkpoint)
            self.summary.sound += checkpoint.ok
            self.summary.damaged += not checkpoint.ok
            self.summary.bytes += checkpoint.bytes
            if self.verified is not None and not checkpoint.problems:
                self.verified.record(checkpoint.checkpoint, marks[checkpoint.checkpoint], self.options)
        return result_of(targets, self.options, found)


def _targets(directory: str) -> Targets:
    """The checkpoints in a directory; none where it has none."""
    try:
        return find_targets([directory if directory.endswith("/") or not directory else directory + "/"])
    except NoCheckpointError:
        return Targets()
