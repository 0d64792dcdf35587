"""`ckptool latest`."""

from __future__ import annotations

import os
import time

import click

from ckptool.cli.options import common_options
from ckptool.cli.output import Column, Output, field_text, human_bytes
from ckptool.errors import RequestError
from ckptool.format.filenames import split_step
from ckptool.format.names import printable
from ckptool.ops.latest import LatestResult, ListedCheckpoint, latest_listed, latest_scanned


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path())
@click.option(
    "--all", "every", is_flag=True, help="Print every checkpoint that the state file lists, oldest first."
)
@click.option("--scan", is_flag=True, help="Go by the files on the disk instead of the state file.")
@click.option("--step", "step_only", is_flag=True, help="Print only the step.")
@click.option("--latest-filename", metavar="NAME", help="The state file's name, if it is not 'checkpoint'.")
@common_options
def command(
    directory: str, every: bool, scan: bool, step_only: bool, latest_filename: str | None, output: Output
) -> int:
    """Print the prefix of the newest checkpoint in a directory.

    What the file 'checkpoint' in DIR (by default the current directory) names, as
    tf.train.latest_checkpoint returns it; the index and every shard must be there at full
    length. With --scan, the highest step on the disk of the same base name.

    \b
    Examples:
        ckptool ls "$(ckptool latest train/)"
        ckptool latest train/ --all

    \b
    Exit codes:
        0  it is printed
        1  there is none; nothing is printed
        2  it is incomplete, the state file is unreadable, or there is no such directory
    """
    query = latest_scanned if scan else latest_listed
    result = query(directory, latest_filename, every=every or output.json)
    for note in result.notes:
        output.note(note)
    if output.json:
        _print_json(result, output)
    elif step_only:
        _print_steps(result, output, every=every)
    elif every:
        _print_all(result, output)
    elif result.latest is not None:
        _print_prefix(result.latest, output)
    return _exit_code(result, every=every, step_only=step_only, output=output)


def _exit_code(result: LatestResult, *, every: bool, step_only: bool, output: Output) -> int:
    problem = result.problem
    # A list is an answer even where no single one can be called the newest.
    if problem is not None and not (every and isinstance(problem, RequestError)):
        raise problem
    if result.latest is None and not (every and result.checkpoints):
        output.remark(f"{result.directory}: no checkpoint")
        return 1
    if step_only and not every and _step(result) is None:
        output.note(f"{result.latest}: the name has no step")
        return 1
    return 0


def _print_prefix(prefix: str, output: Output) -> None:
    # A script gets the path as it is: escapes would name another file.
    if output.terminal:
        output.text(printable(prefix) + "\n")
    else:
        output.bytes(os.fsencode(prefix) + b"\n")


def _step(result: LatestResult) -> int | None:
    return None if result.latest is None else split_step(result.latest).step


def _print_steps(result: LatestResult, output: Output, *, every: bool) -> None:
    steps = [c.step for c in result.checkpoints] if every else [_step(result)]
    output.lines((str(step),) for step in steps if step is not None)


def _print_json(result: LatestResult, output: Output) -> None:
    checkpoints = [dict(zip(_KEYS, _values(checkpoint), strict=True)) for checkpoint in result.checkpoints]
    fields = {"directory": result.directory, "latest": result.latest, "checkpoints": checkpoints}
    output.document("latest", fields)


_KEYS = ("checkpoint", "step", "timestamp", "bytes", "complete", "listed")


def _values(c: ListedCheckpoint) -> tuple[str | float | None, ...]:
    """What is printed of a checkpoint, in the order of `_KEYS`."""
    return c.checkpoint, c.step, c.timestamp, c.bytes, c.complete, c.listed


def _print_all(result: LatestResult, output: Output) -> None:
    if not output.terminal:
        output.lines([field_text(value) for value in _values(c)] for c in result.checkpoints)
    elif result.checkpoints:
        headings = ("checkpoint", "step", "saved", "size", "complete", "listed")
        columns = [Column(heading, right=heading in ("step", "size")) for heading in headings]
        output.table(columns, [_row(result.directory, c) for c in result.checkpoints])


def _row(directory: str, c: ListedCheckpoint) -> tuple[str | None, ...]:
    place, name = os.path.split(c.checkpoint)
    return (
        name if place == directory.rstrip("/") else c.checkpoint,
        None if c.step is None else str(c.step),
        None if c.timestamp is None else _local_time(c.timestamp),
        human_bytes(c.bytes),
        "yes" if c.complete else "; ".join(c.missing),
        "yes" if c.listed else "no",
    )


def _local_time(timestamp: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))
    except (ValueError, OverflowError, OSError):  # a state file may say anything
        return str(timestamp)
