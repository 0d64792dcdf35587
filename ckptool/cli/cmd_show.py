"""`ckptool show`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click

from ckptool.cli.options import TensorName, checkpoint_argument, common_options, selection_options
from ckptool.cli.output import Output
from ckptool.cli.resolve import open_checkpoint
from ckptool.errors import RequestError
from ckptool.format.names import printable
from ckptool.format.shape import format_shape
from ckptool.model.reader import CheckpointReader
from ckptool.ops.show import Wanted, read_wanted, resolve_wanted
from ckptool.wire.files import replace_file

if TYPE_CHECKING:
    from ckptool.format.arrays import Array

Format = Literal["text", "json", "csv", "npy", "raw"]

_SUFFIXES: dict[str, Format] = {".npy": "npy", ".csv": "csv", ".json": "json", ".txt": "text"}


@dataclass(frozen=True)
class _Layout:
    """How numbers look as text."""

    elide: bool
    precision: int | None
    threshold: int | None
    suppress: bool


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
    type=click.Choice(["text", "json", "csv", "npy", "raw"]),
    help="How to write the values.",
)
@click.option(
    "-o", "--output", "target", metavar="FILE", type=click.Path(), help="Write to FILE, by its suffix."
)
@click.option("--no-verify", is_flag=True, help="Read only what is needed, and do not compare checksums.")
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
    no_verify: bool,
    output: Output,
) -> None:
    """Print the values of tensors, all of them if none is named.

    NAME may have a slice as NumPy writes it, or be a pattern with the wildcards * and ?.
    Values are compared with their checksums. On a terminal long arrays are shortened; a
    pipe or a file gets every value, with the digits that read back as the same number.

    \b
    Examples:
        ckptool show model.ckpt w1
        ckptool show model.ckpt 'embedding[0:3,:8]'
        ckptool show model.ckpt w1 -o w1.npy

    \b
    Exit codes:
        0  shown
        2  no such tensor, or it cannot be read
    """
    chosen = _choose_format(format_, target, output)
    if chosen in ("npy", "raw") and target is None and output.terminal:
        raise RequestError(
            f"{chosen} is no text for a terminal", remedy="write it to a file with -o, or to a pipe"
        )
    elide = output.terminal and not full and target is None
    layout = _Layout(elide, precision, threshold, suppress)
    with open_checkpoint(checkpoint, output, names) as (reader, names):
        wanted = resolve_wanted(reader, names, regex, exclude)
        sink = _Sink(target, output)
        if chosen == "json":
            _write_json(reader, wanted, sink, verify=not no_verify)
        elif chosen == "text":
            _write_text(reader, wanted, sink, layout, verify=not no_verify)
        else:
            _write_one(reader, wanted, chosen, sink, verify=not no_verify)
        sink.finish()


def _choose_format(format_: Format | None, target: str | None, output: Output) -> Format:
    if format_ is not None:
        if output.json and format_ != "json":
            raise RequestError(f"--json and --format {format_} exclude each other")
        return format_
    if output.json:
        return "json"
    if target is None:
        return "text"
    suffix = os.path.splitext(target)[1].lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        raise RequestError(
            f"{target}: the suffix does not tell the format", remedy=f"use --format, or one of {known}"
        )
    return _SUFFIXES[suffix]


class _Sink:
    """Where the values go: stdout as they come, or a file that appears when all is done."""

    def __init__(self, target: str | None, output: Output) -> None:
        self.output = output
        self._target = target
        self._pieces: list[bytes] = []

    def text(self, text: str) -> None:
        if self._target is None:
            self.output.text(text)
        else:
            self._pieces.append(text.encode("utf-8"))

    def bytes(self, data: bytes) -> None:
        if self._target is None:
            self.output.bytes(data)
        else:
            self._pieces.append(data)

    def finish(self) -> None:
        if self._target is not None:
            replace_file(self._target, b"".join(self._pieces))


def _write_text(
    reader: CheckpointReader, wanted: Sequence[Wanted], sink: _Sink, layout: _Layout, *, verify: bool
) -> None:
    from ckptool.cli.values import as_text

    for number, one in enumerate(wanted):
        values = read_wanted(reader, one, verify=verify)
        if len(wanted) > 1:
            gap = "\n" if number and layout.elide else ""
            sink.text(gap + "\t".join((printable(one.name), one.dtype.name, format_shape(one.shape))) + "\n")
        text = as_text(
            values,
            elide=layout.elide,
            precision=layout.precision,
            threshold=layout.threshold,
            suppress=layout.suppress,
        )
        sink.text(text + "\n")


def _write_json(reader: CheckpointReader, wanted: Sequence[Wanted], sink: _Sink, *, verify: bool) -> None:
    from ckptool.cli.output import json_document
    from ckptool.cli.values import as_json

    tensors = [
        {
            "name": one.name,
            "dtype": one.dtype,
            "shape": one.shape,
            "values": as_json(read_wanted(reader, one, verify=verify)),
        }
        for one in wanted
    ]
    for text in json_document("show", {"checkpoint": reader.prefix, "tensors": tensors}):
        sink.text(text)


def _write_one(
    reader: CheckpointReader, wanted: Sequence[Wanted], chosen: Format, sink: _Sink, *, verify: bool
) -> None:
    from ckptool.cli.values import as_csv
    from ckptool.ops.export import npy_bytes, npy_substitute, raw_bytes

    if len(wanted) != 1:
        raise RequestError(f"{chosen} holds one tensor, not {len(wanted)}", remedy="name one")
    one = wanted[0]
    values: Array = read_wanted(reader, one, verify=verify)
    if chosen == "csv":
        sink.text(as_csv(one.name, values))
    elif chosen == "raw":
        sink.bytes(raw_bytes(one.name, one.dtype, values))
    else:
        substitute = npy_substitute(one.dtype)
        if substitute is not None:
            sink.output.note(f"{one.name}: {one.dtype} written as {substitute}, .npy has no such type")
        sink.bytes(npy_bytes(one.name, one.dtype, values))
