"""`ckptool latest` on the command line."""

from __future__ import annotations

import click

from ckptool.cli import run_latest
from ckptool.cli.options import Duration, common_options
from ckptool.cli.output import Output


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path())
@click.option(
    "--all", "every", is_flag=True, help="Print every checkpoint that the state file lists, oldest first."
)
@click.option("--scan", is_flag=True, help="Go by the files on the disk instead of the state file.")
@click.option("--step", "step_only", is_flag=True, help="Print only the step.")
@click.option("--latest-filename", metavar="NAME", help="The state file's name, if it is not 'checkpoint'.")
@click.option("--wait", is_flag=True, help="Wait until there is a complete one.")
@click.option("--timeout", type=Duration(), metavar="TIME", help="Give up waiting after TIME (90, 30m, 2h).")
@click.option("--newer-than", metavar="PREFIX", help="Wait for another one than PREFIX.")
@click.option(
    "--set", "new_latest", metavar="PREFIX|STEP", help="Point the state file at another complete checkpoint."
)
@click.option("--fix", is_flag=True, help="Make moved paths relative, and drop entries without files.")
@common_options
def command(
    directory: str,
    every: bool,
    scan: bool,
    step_only: bool,
    latest_filename: str | None,
    wait: bool,
    timeout: float | None,
    newer_than: str | None,
    new_latest: str | None,
    fix: bool,
    output: Output,
) -> int:
    """Print the prefix of the newest checkpoint in a directory.

    What the file 'checkpoint' in DIR (by default the current directory) names, as
    tf.train.latest_checkpoint returns it; the index and every shard must be there at full
    length. With --scan, the highest step on the disk of the same base name. --set and
    --fix change that file, and print what changed.

    \b
    Examples:
        ckptool ls "$(ckptool latest train/)"
        ckptool latest train/ --all
        ckptool latest train/ --wait --newer-than train/model.ckpt-1000 --timeout 2h
        ckptool latest train/ --set 1000

    \b
    Exit codes:
        0  it is printed, or changed
        1  there is none, or no new one in time; nothing is printed
        2  it is incomplete, the state file is unreadable, or there is no such directory
    """
    _check_options(
        wait, timeout, newer_than, change=new_latest is not None or fix, other=every or scan or step_only
    )
    if new_latest is not None and fix:
        raise click.UsageError("--set and --fix exclude each other")
    return run_latest.run(
        directory,
        output=output,
        every=every,
        scan=scan,
        step_only=step_only,
        latest_filename=latest_filename,
        wait=wait,
        timeout=timeout,
        newer_than=newer_than,
        new_latest=new_latest,
        fix=fix,
    )


def _check_options(
    wait: bool, timeout: float | None, newer_than: str | None, *, change: bool, other: bool
) -> None:
    """Usage errors for options that mean nothing together."""
    if not wait and (timeout is not None or newer_than is not None):
        raise click.UsageError("--timeout and --newer-than need --wait")
    if change and (wait or other):
        raise click.UsageError("--set and --fix go with none of --all, --scan, --step and --wait")
