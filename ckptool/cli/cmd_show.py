"""`ckptool show` on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ckptool.cli import run_show
from ckptool.cli.options import (
    TensorName,
    checkpoint_argument,
    common_options,
    dask_option,
    selection_options,
)
from ckptool.cli.output import Output
from ckptool.cli.run_show import TO_STDOUT

if TYPE_CHECKING:
    from ckptool.cli.run_show import Format


@click.command("show")
@checkpoint_argument()
@click.argument("names", metavar="[NAME[SLICE]]...", nargs=-1, type=TensorName())
@selection_options
@click.option("--full", is_flag=True, help="Never shorten long arrays.")
@click.option(
    "--precision", type=click.IntRange(0, 100), metavar="N", help="Print N digits after the point at most."
)
@click.option(
    "--threshold", type=click.IntRange(min=0), metavar="N", help="Shorten arrays of more than N elements."
)
@click.option("--suppress", is_flag=True, help="Print small numbers as 0 rather than with an exponent.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(TO_STDOUT),
    help="How to write the values.",
)
@click.option(
    "-o",
    "--output",
    "target",
    metavar="FILE",
    type=click.Path(),
    help="Write to FILE, by its suffix: .npy .npz .safetensors .csv .json .txt.",
)
@click.option("--stats", is_flag=True, help="Show statistics and a histogram instead of the values.")
@click.option("--no-verify", is_flag=True, help="Read only what is needed, and do not compare checksums.")
@dask_option
@common_options
def command(
    checkpoint: str,
    names: tuple[str, ...],
    regex: tuple[str, ...],
    exclude: tuple[str, ...],
    full: bool,
    precision: int | None,
    threshold: int | None,
    suppress: bool,
    format_: Format | None,
    target: str | None,
    stats: bool,
    no_verify: bool,
    dask_address: str | None,
    output: Output,
) -> None:
    """Print the values of tensors, all of them if none is named.

    NAME may have a slice as NumPy writes it, or be a pattern with the wildcards * and ?.
    Values are compared with their checksums. On a terminal long arrays are shortened; a
    pipe or a file gets every value, with the digits that read back as the same number.

    With --stats, of the elements that are not NaN: count, min, max, mean, standard
    deviation (of the population), L2 norm; and how many are zero, NaN, infinite.

    \b
    Examples:
        ckptool show model.ckpt w1
        ckptool show model.ckpt 'embedding[0:3,:8]'
        ckptool show model.ckpt --stats
        ckptool show model.ckpt -o weights.npz

    \b
    Exit codes:
        0  shown
        2  no such tensor, or it cannot be read
    """
    run_show.run(
        checkpoint,
        *names,
        output=output,
        regex=regex,
        exclude=exclude,
        full=full,
        precision=precision,
        threshold=threshold,
        suppress=suppress,
        format_=format_,
        target=target,
        stats=stats,
        no_verify=no_verify,
        dask_address=dask_address,
    )
