"""`ckptool prune` on the command line."""

from __future__ import annotations

import click

from ckptool.cli import run_prune
from ckptool.cli.options import Duration, common_options
from ckptool.cli.output import Output


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
    return run_prune.run(
        directory,
        output=output,
        keep=keep,
        keep_every_hours=keep_every_hours,
        keep_every_steps=keep_every_steps,
        keep_within=keep_within,
        pins=pins,
        min_age=min_age,
        leftovers=leftovers,
        leftover_age=leftover_age,
        dry_run=dry_run,
        quiet=quiet,
        latest_filename=latest_filename,
    )
