"""`ckptool prune`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from ckptool.cli.options import Duration, common_options
from ckptool.cli.output import Column, Output, human_bytes
from ckptool.cli.progress import progress
from ckptool.ops.prune import DeletedCheckpoint, KeptCheckpoint, PruneResult, prune_checkpoints


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path())
@click.option("--keep", type=int, metavar="N", help="Keep the N highest steps of each base name.")
@click.option("--keep-every-hours", type=float, metavar="H", help="Of the others, keep one every H hours.")
@click.option("--keep-every-steps", type=int, metavar="N", help="Keep steps that are multiples of N.")
@click.option(
    "--keep-within",
    type=Duration(),
    metavar="TIME",
    help="Keep what is at most TIME (7d, 12h) older than the highest step.",
)
@click.option("--pin", "pins", multiple=True, metavar="PREFIX|STEP|PATTERN", help="Keep these besides.")
@click.option(
    "--min-age", type=Duration(), default="0", metavar="TIME", help="Keep what has changed within TIME."
)
@click.option("--leftovers", is_flag=True, help="Also delete what interrupted saves have left behind.")
@click.option(
    "--leftover-age",
    type=Duration(),
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How long a leftover must not have changed.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Delete nothing; print what would be done.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--latest-filename", metavar="NAME", help="The state file's name, if it is not 'checkpoint'.")
@common_options
def command(
    directory: str,
    keep: int | None,
    keep_every_hours: float | None,
    keep_every_steps: int | None,
    keep_within: float | None,
    pins: tuple[str, ...],
    min_age: float,
    leftovers: bool,
    leftover_age: float,
    dry_run: bool,
    quiet: bool,
    latest_filename: str | None,
    output: Output,
) -> int:
    """Delete old checkpoints in a directory, as max_to_keep would have.

    Goes by what is on the disk, for each base name by itself, and prints what is kept, what
    is deleted and why. At least one --keep option is needed, and what any of them keeps is
    kept. The checkpoint that the state file points at always is, and so is everything
    incomplete, unknown, symbolically linked, without a step in its name, or outside of DIR
    (by default the current directory).

    \b
    Examples:
        ckptool prune train/ --keep 5 --dry-run
        ckptool prune train/ --keep 4 --keep-every-hours 2 --pin 'best-*'

    \b
    Exit codes:
        0  done
        2  nothing was deleted: usage, or the state file's checkpoint is missing or incomplete;
           or some files could not be deleted
    """
    with progress("looking") as advance:
        result = prune_checkpoints(
            directory,
            keep,
            keep_every_hours=keep_every_hours,
            keep_every_steps=keep_every_steps,
            keep_within=keep_within,
            pins=pins,
            min_age=min_age,
            leftovers=leftovers,
            leftover_age=leftover_age,
            dry_run=dry_run,
            latest_filename=latest_filename,
            advance=advance,
        )
    for note in result.notes:
        output.note(note)
    if output.json:
        output.document("prune", _document(result, leftovers=leftovers))
    elif not quiet and output.terminal:
        _print_table(result, output)
    elif not quiet:
        output.lines(_lines(result))
    for failure in result.failed:
        output.note(f"error: {failure.file}: {failure.detail}")
    return 2 if result.failed else 0


def _document(result: PruneResult, *, leftovers: bool) -> dict[str, object]:
    fields: dict[str, object] = {
        "directory": result.directory,
        "dry_run": result.dry_run,
        "keep": [{"checkpoint": c.checkpoint, "reasons": c.reasons} for c in result.keep],
        "delete": [{"checkpoint": c.checkpoint, "files": c.files, "bytes": c.bytes} for c in result.delete],
    }
    if leftovers:
        fields["leftovers"] = result.leftovers
    fields["freed"] = result.freed
    if result.failed:
        fields["failed"] = result.failed
    return fields


def _rows(result: PruneResult) -> Iterator[tuple[str, str, int, str]]:
    """What happens, to what, its bytes, and why."""
    for c in result.decisions:
        yield (
            "keep" if isinstance(c, KeptCheckpoint) else "delete",
            c.checkpoint,
            c.bytes,
            "; ".join(c.reasons),
        )
    for leftover in result.leftovers:
        yield "delete", leftover.leftover, leftover.bytes, f"leftover: {leftover.kind}"


def _lines(result: PruneResult) -> Iterator[tuple[str, ...]]:
    for what, path, size, why in _rows(result):
        yield what, path, str(size), why
    yield "freed", result.directory, str(result.freed), "dry run" if result.dry_run else ""


def _print_table(result: PruneResult, output: Output) -> None:
    columns = [Column(""), Column("checkpoint"), Column("size", right=True), Column("reason")]
    place = result.directory.rstrip("/")
    rows = [
        (what, os.path.basename(path) if os.path.dirname(path) == place else path, human_bytes(size), why)
        for what, path, size, why in _rows(result)
    ]
    deleted = sum(isinstance(c, DeletedCheckpoint) for c in result.decisions)
    done = "would be deleted" if result.dry_run else "deleted"
    footer = f"{deleted} of {len(result.decisions)} {done}, {human_bytes(result.freed)}"
    if rows:
        output.table(columns, rows, footer)
    else:
        output.text("no checkpoints\n")
