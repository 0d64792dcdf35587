"""What a user typed -> the checkpoint it names. Paths are literal: nothing is globbed."""

from __future__ import annotations

import os

from ckptool.errors import (
    CheckpointError,
    CorruptionError,
    FileError,
    NoCheckpointError,
    NotFoundError,
    RequestError,
    UnsupportedError,
)
from ckptool.format.filenames import (
    INDEX_SUFFIX,
    META_SUFFIX,
    STATE_NAME,
    index_path,
    parse_data_name,
    parse_v1_pattern,
    parse_v1_shard,
    v1_pattern,
    v1_shard_path,
)
from ckptool.format.sstable import is_table
from ckptool.model.location import Location, split_path, v2_location
from ckptool.model.statefile import read_state, resolve_recorded, state_path
from ckptool.typed import TYPE_CHECKING
from ckptool.wire.files import (
    StrPath,
    exists,
    expect_end,
    file_size,
    is_directory,
    list_directory,
    open_input,
)
from ckptool.wire.urls import url_root

if TYPE_CHECKING:
    from ckptool.model.discovery import FoundCheckpoint
    from ckptool.model.foreign import Foreign
    from ckptool.wire.handles import InputFile

__all__ = ["Location", "locate", "locate_prefix"]

_NAMES_SHOWN = 10
_HEAD = 1 << 16


def locate(path: StrPath) -> Location:
    """The checkpoint that `path` names in any form; what was resolved is not resolved again.

    In this order: the prefix or any one file of a V2 checkpoint; a V1 file; the prefix,
    pattern, graph or any one shard of a sharded V1 checkpoint; a state file, for its
    latest; a SavedModel directory; a directory, for the latest of its state file or else
    for the only checkpoint in it. A trailing slash means a directory.

    Raises:
        NotFoundError: there is no such thing, or a part of it is missing.
        NoCheckpointError: a directory that holds no checkpoint.
        RequestError: it names several.
        CorruptionError, UnsupportedError: a file that is no checkpoint; the message says what it is.
        FileError: the operating system refused.
    """
    text = os.fspath(path)
    if not text:
        raise RequestError("the name of the checkpoint is empty")
    if text.endswith("/"):
        if not is_directory(text):
            raise NotFoundError("no such directory", path=text)
        return _in_directory(text)
    found = _v2(text) or _by_member(text) or _v1(text) or _v1_set(text)
    if found is not None:
        return found
    if is_directory(text):
        return _in_directory(text)
    if file_size(text) is not None:
        return _by_other_file(text)
    raise _not_found(text)


def locate_prefix(prefix: str) -> Location | None:
    """The checkpoint with exactly this prefix or V1 pattern, None if nothing is there or no checkpoint.

    Raises like `locate`: for an index that is something else, for a V1 shard that is missing.
    """
    return _v2(prefix) or _v1(prefix)


def _v2(prefix: str) -> Location | None:
    path = index_path(prefix)
    expect_end(path)
    if file_size(path) is None:
        return None
    _check_table(path)
    return v2_location(prefix)


def _recognised(file: InputFile) -> Foreign | None:
    """What a file is instead of a checkpoint; what knows that is loaded only when something is wrong."""
    from ckptool.model.foreign import recognise

    return recognise(file)


def _check_table(path: str) -> None:
    """Refuse what is no table and is known to be something else; leave everything else to its reader.

    Raises:
        CorruptionError: empty, a pointer of Git LFS, an HTML page, all zeros, cut off.
        UnsupportedError: another kind of file.
        FileError: it cannot be read.
    """
    with open_input(path) as file:
        if is_table(file):
            return
        found = _recognised(file)
    if found is not None:
        raise found.error(path)


def _v1(prefix: str) -> Location | None:
    """The V1 checkpoint at a path or pattern; for a path that is a shard, all shards."""
    pattern = parse_v1_pattern(prefix)
    if pattern is not None:
        return _v1_shards(prefix, *pattern)
    shard = parse_v1_shard(prefix)
    if not _is_v1(prefix):
        return None
    if shard is not None:
        return _v1_shards(v1_pattern(shard.prefix, shard.total), shard.prefix, shard.total)
    return Location(prefix, "V1", (prefix,))


def _by_member(path: str) -> Location | None:
    """The checkpoint of which `path` is an existing file: index, data shard or graph."""
    if file_size(path) is None:
        return None
    data = parse_data_name(path)
    if data is not None:
        if file_size(index_path(data.prefix)) is None:
            raise _index_missing(data.prefix)
        return _v2(data.prefix)
    if path.endswith(INDEX_SUFFIX):
        return _v2(path.removesuffix(INDEX_SUFFIX))
    if path.endswith(META_SUFFIX):
        prefix = path.removesuffix(META_SUFFIX)
        return locate_prefix(prefix) or _v1_set(prefix)
    return None


def _is_v1(path: str) -> bool:
    """Whether a V1 table is at `path`; UnsupportedError if it is a V2 index whose name hides that."""
    if file_size(path) is None:
        return False
    with open_input(path) as file:
        if not is_table(file):
            return False
    from ckptool.model.discovery import table_kind

    kind = table_kind(path)
    if kind == "V2":
        raise UnsupportedError(
            "is the index of a V2 checkpoint under another name",
            path=path,
            remedy="let its name end in .index, and the names of its data shards begin like it",
        )
    return kind == "V1"


def _v1_set(prefix: str) -> Location | None:
    """The sharded V1 checkpoint of which `prefix` is the prefix, without the pattern."""
    directory, name = split_path(prefix)
    counts = sorted({s.total for s in map(parse_v1_shard, _names_in(directory)) if s and s.prefix == name})
    sets = [count for count in counts if _first_is_v1(prefix, count)]
    if len(sets) > 1:
        patterns = ", ".join(v1_pattern(prefix, count) for count in sets)
        raise RequestError(f"there are several checkpoints of this name: {patterns}", path=prefix)
    return _v1_shards(v1_pattern(prefix, sets[0]), prefix, sets[0]) if sets else None


def _first_is_v1(prefix: str, count: int) -> bool:
    """Whether the first shard that is there is a V1 table: training data has such names too."""
    paths = (v1_shard_path(prefix, shard, count) for shard in range(count))
    return any(_is_v1(path) for path in paths if file_size(path) is not None)


def _v1_shards(pattern: str, prefix: str, count: int) -> Location | None:
    """A whole V1 set; NotFoundError if some of its shards are missing, None if all are."""
    directory, name = split_path(prefix)
    present = {s.shard for s in map(parse_v1_shard, _names_in(directory)) if s and s[::2] == (name, count)}
    if not present:
        return None
    if len(present) < count:
        first = next(shard for shard in range(count) if shard not in present)
        missing = v1_shard_path(name, first, count)
        raise NotFoundError(
            f"{count - len(present)} of the {count} shards are missing, the first is {missing}",
            path=pattern,
            remedy="copy the missing ones, or give one shard another name to read it alone",
        )
    paths = tuple(v1_shard_path(prefix, shard, count) for shard in range(count))
    _check_table(paths[0])
    return Location(pattern, "V1", paths)


def _by_other_file(path: str) -> Location:
    """The latest checkpoint of a state file; for any other file, the error that says what it is."""
    with open_input(path) as file:
        foreign = _recognised(file)
        head = file.read(0, min(file.size, _HEAD))
    if foreign is None and (b"model_checkpoint_path" in head or split_path(path)[1] == STATE_NAME):
        return _from_state(path)
    if path.endswith(META_SUFFIX):
        prefix = path.removesuffix(META_SUFFIX)
        raise NotFoundError(
            f"is the graph of {prefix}, but that checkpoint's other files are not here",
            path=path,
            remedy=f"copy {split_path(index_path(prefix))[1]} and its data shards here as well",
        )
    if foreign is not None:
        raise foreign.error(path)
    raise UnsupportedError("is no checkpoint, and no kind of file that ckptool knows", path=path)


def _from_state(path: str) -> Location:
    recorded = read_state(path).model_checkpoint_path
    directory = split_path(path)[0]
    resolved = resolve_recorded(directory, recorded)
    found = locate_prefix(resolved.prefix)
    if found is None:
        if exists(resolved.prefix) and not is_directory(resolved.prefix):
            _check_table(resolved.prefix)
        raise NotFoundError(
            f"names {resolved.prefix}, but there is no checkpoint of that name",
            path=path,
            remedy=f"ckptool latest --scan --all {directory or '.'} lists what is there",
        )
    if resolved.moved:
        return found._replace(
            notes=(f"{path} names {recorded}, which is not there; using {resolved.prefix}",)
        )
    return found


def _in_directory(directory: str) -> Location:
    variables = os.path.join(directory, "variables", "variables")
    saved = _saved_model(directory, variables)
    if saved is not None:
        return saved
    state = state_path(directory)
    if file_size(state) is not None and not _is_v1(state):
        return _from_state(state)
    from ckptool.model.discovery import discover

    found = discover(directory)
    checkpoints = [c for c in found if c.is_checkpoint]
    if not checkpoints:
        raise _none_in(directory, found)
    if len(checkpoints) > 1:
        names = [c.name for c in checkpoints]
        shown = ", ".join(names[:_NAMES_SHOWN])
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        raise RequestError(
            f"has {len(names)} checkpoints and no file '{STATE_NAME}' to say which is meant: {shown}{more}",
            path=directory,
            remedy=f"name one of them, as in {os.path.join(directory, names[-1])}",
        )
    prefix = checkpoints[0].location(directory).prefix
    location = locate_prefix(prefix)
    if location is None:
        raise NotFoundError("its files vanished while they were looked at", path=prefix)
    note = f"{directory} has no file '{STATE_NAME}'; using the only checkpoint in it, {prefix}"
    return location._replace(notes=(note,))


def _saved_model(directory: str, variables: str) -> Location | None:
    names = ("saved_model.pb", "saved_model.pbtxt", os.path.join("variables", "variables.index"))
    if not any(file_size(os.path.join(directory, name)) is not None for name in names):
        return None
    return locate_prefix(variables) or _v1_set(variables)


def _none_in(directory: str, found: list[FoundCheckpoint]) -> CheckpointError:
    """Why a directory has nothing to offer."""
    if found:
        name = found[0].name
        return NoCheckpointError(
            f"no checkpoint in this directory: {name} has data shards, but {index_path(name)} is missing",
            path=directory,
        )
    if file_size(os.path.join(directory, "saved_model.pb")) is not None:
        return NoCheckpointError("is a SavedModel without variables", path=directory)
    return NoCheckpointError("no checkpoint in this directory", path=directory)


def _not_found(path: str) -> CheckpointError:
    if exists(path):
        return UnsupportedError("is neither a regular file nor a directory", path=path)
    if exists(index_path(path)):
        open_input(index_path(path)).close()  # which refuses what is no regular file, and says what it is
    directory, name = split_path(path)
    root = url_root(path)
    if root is not None and not is_directory(root):
        return NotFoundError(f"no such checkpoint: there is no {root}", path=path)
    if not is_directory(directory or "."):
        return NotFoundError(f"no such checkpoint: there is no directory {directory}", path=path)
    data = parse_data_name(name)
    wanted = data.prefix if data else name.removesuffix(INDEX_SUFFIX)
    names = _names_in(directory)
    if any(shard and shard.prefix == wanted for shard in map(parse_data_name, names)):
        return _index_missing(directory + wanted)
    if any(shard and shard.prefix == wanted for shard in map(parse_v1_shard, names)):
        return _sharded_something(
            directory, next(n for n in names if (s := parse_v1_shard(n)) and s.prefix == wanted)
        )
    return NotFoundError(
        "no such checkpoint, file or directory", path=path, remedy=_nearest(directory, name, names)
    )


def _index_missing(prefix: str) -> NotFoundError:
    return NotFoundError(
        "the index is missing: there are data shards, but they cannot be read without it",
        path=index_path(prefix),
        remedy="copy it here; if a save was interrupted, take another checkpoint",
    )


def _sharded_something(directory: str, name: str) -> CheckpointError:
    with open_input(directory + name) as file:
        foreign = _recognised(file)
    if foreign is not None:
        return foreign.error(directory + name)
    return CorruptionError("is named like a shard of a V1 checkpoint, but is none", path=directory + name)


def _nearest(directory: str, name: str, names: list[str]) -> str | None:
    """The checkpoints in a directory whose names are most like `name`, as a question."""
    from difflib import get_close_matches

    prefixes = {n.removesuffix(INDEX_SUFFIX) for n in names if n.endswith(INDEX_SUFFIX)}
    prefixes.update(v1_pattern(s.prefix, s.total) for s in map(parse_v1_shard, names) if s)
    near = get_close_matches(name, sorted(prefixes), n=3) or get_close_matches(name, names, n=1)
    return f"did you mean {' or '.join(directory + match for match in near)}?" if near else None


def _names_in(directory: str) -> list[str]:
    try:
        return [entry.name for entry in list_directory(directory or ".")]
    except FileError:
        return []  # a directory may be open to those who know the names only
