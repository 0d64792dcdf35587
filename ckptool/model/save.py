"""save_checkpoint: what tf.train.Saver.save does for values that are at hand."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ckptool.errors import RequestError
from ckptool.format.filenames import STATE_NAME
from ckptool.format.names import encode_name
from ckptool.format.state import CheckpointState, format_state
from ckptool.model.location import split_path
from ckptool.model.statefile import find_state, state_path
from ckptool.wire.files import StrPath, replace_file

if TYPE_CHECKING:
    import numpy.typing as npt


def save_checkpoint(
    prefix: StrPath,
    tensors: Mapping[str, npt.ArrayLike],
    global_step: int | None = None,
    max_to_keep: int | None = None,
) -> str:
    """Save a V2 checkpoint, add it to the directory's `checkpoint` file, and return its prefix.

    `tensors` are written in the order of their names, as a Saver does; for their values see
    `CheckpointWriter.add`. With `global_step`, the prefix gets `-STEP`. A checkpoint of
    that name is replaced. In the `checkpoint` file the new one comes last and is the
    latest; with `max_to_keep`, only the last so many stay listed. No older checkpoint is
    deleted. The directory is made if only that is missing.

    Raises:
        RequestError: no tensors, a value that no checkpoint can hold, or a prefix that
            cannot be one.
        CorruptionError: there is a `checkpoint` file that cannot be read; nothing is saved.
        FileError: the operating system refused.
    """
    from ckptool.model.writer import CheckpointWriter

    path = os.fspath(prefix)
    if global_step is not None:
        path = f"{path}-{int(global_step)}"
    if max_to_keep is not None and max_to_keep < 0:
        raise RequestError("max_to_keep cannot be negative")
    directory, name = split_path(path)
    recorded = path if os.path.isabs(path) else name
    # Before anything is written: what is listed must be readable, and the new one must fit in.
    find_state(directory)
    format_state(CheckpointState(recorded))
    with CheckpointWriter(path, replace=True) as writer:
        for tensor in sorted(tensors, key=encode_name):
            writer.add(tensor, tensors[tensor])
    add_to_state(directory, recorded, max_to_keep or 0)
    return path


def add_to_state(directory: str, recorded: str, limit: int = 0) -> None:
    """Make a checkpoint the latest of a directory's `checkpoint` file, as a Saver writes it.

    `recorded` is its path, absolute or relative to the directory. Of those listed before
    the newest stay, with `limit` so many that there are no more than that in all.
    """
    state = find_state(directory) or CheckpointState(recorded)
    listed, times = state.all_model_checkpoint_paths, state.all_model_checkpoint_timestamps
    timed = bool(times) and len(times) == len(listed)
    here = os.path.normpath(os.path.join(directory, recorded))
    kept = [i for i, path in enumerate(listed) if os.path.normpath(os.path.join(directory, path)) != here]
    if limit:
        kept = kept[max(0, len(kept) - limit + 1) :]
    new = replace(
        state,
        model_checkpoint_path=recorded,
        all_model_checkpoint_paths=(*(listed[i] for i in kept), recorded),
        all_model_checkpoint_timestamps=(*(times[i] for i in kept), time.time()) if timed else (),
    )
    replace_file(state_path(directory, STATE_NAME), format_state(new))
