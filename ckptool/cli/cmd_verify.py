"""`ckptool verify` on the command line."""

from __future__ import annotations

import click

from ckptool.cli import run_verify
from ckptool.cli.options import common_options, dask_option
from ckptool.cli.output import Output


@click.command()
@click.argument("paths", metavar="CKPT|DIR...", nargs=-1, required=True, type=click.Path())
@click.option("--quick", is_flag=True, help="Check structure only: the index and the sizes of files.")
@click.option("--finite", is_flag=True, help="Count NaN and infinite values as errors.")
@click.option("--strict", is_flag=True, help="Let warnings fail as errors do.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Read with N threads, not one each core."
)
@click.option("--all", "tree", is_flag=True, help="Look through everything under each DIR.")
@click.option(
    "--state",
    type=click.Path(),
    metavar="FILE",
    help="With --all: record what is sound in FILE, and pass by what is recorded and has not changed.",
)
@dask_option
@common_options
def command(
    paths: tuple[str, ...],
    quick: bool,
    finite: bool,
    strict: bool,
    quiet: bool,
    jobs: int | None,
    tree: bool,
    state: str | None,
    dask_address: str | None,
    output: Output,
) -> int:
    """Say what is wrong with checkpoints.

    Compares the structure of index and shards with what the format demands, and every
    byte with its checksum. Of a directory: every checkpoint in it, the state file, and
    what interrupted saves have left behind.

    \b
    Examples:
        ckptool verify train/model.ckpt-1000
        ckptool verify train/ --quick
        ckptool verify --all experiments/ --state verified.jsonl

    \b
    Exit codes:
        0  sound; there may be warnings
        1  something is damaged, or with --strict there are warnings
        2  something could not be looked at
    """
    if quick and finite:
        raise click.UsageError("--finite reads all values, --quick none: choose one")
    if state is not None and not tree:
        raise click.UsageError("--state goes with --all")
    return run_verify.run(
        *paths,
        output=output,
        quick=quick,
        finite=finite,
        strict=strict,
        quiet=quiet,
        jobs=jobs,
        tree=tree,
        state=state,
        dask_address=dask_address,
    )
