"""`ckptool ls`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import click

from ckptool.cli.options import TensorName, checkpoint_argument, common_options, selection_options
from ckptool.cli.output import Column, Output, field_text, human_bytes
from ckptool.cli.resolve import open_checkpoint
from ckptool.format.shape import format_shape
from ckptool.model.info import SliceInfo, TensorInfo
from ckptool.model.reader import CheckpointReader
from ckptool.ops.listing import Listing, SortKey, list_heads, list_tensors
from ckptool.ops.select import Selection


@click.command("ls")
@checkpoint_argument()
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1, type=TensorName())
@selection_options
@click.option("-1", "--names", "names_only", is_flag=True, help="Print names only.")
@click.option("-l", "--long", is_flag=True, help="Add shard, offset, checksum and number of slices.")
@click.option("--slices", is_flag=True, help="List the stored slices of partitioned tensors.")
@click.option(
    "--sort",
    type=click.Choice(["name", "size", "params", "offset"]),
    default="name",
    help="Sort by name, bytes or parameters (largest first), or place in the shards.",
)
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="List only the first N; sorts by size.")
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    checkpoint: str,
    patterns: tuple[str, ...],
    regex: tuple[str, ...],
    exclude: tuple[str, ...],
    names_only: bool,
    long: bool,
    slices: bool,
    sort: SortKey,
    reverse: bool,
    top: int | None,
    output: Output,
) -> int:
    """List the tensors of a checkpoint: name, dtype and shape.

    Needs the index only: data shards may be absent. PATTERN is a name, or has the
    wildcards * and ?, where * crosses slashes.

    \b
    Examples:
        ckptool ls train/model.ckpt-1000
        ckptool ls train/ 'encoder/*' --sort size

    \b
    Exit codes:
        0  listed
        1  a pattern matches nothing
        2  the checkpoint cannot be read
    """
    if top is not None and ctx.get_parameter_source("sort") == click.core.ParameterSource.DEFAULT:
        sort = "size"
    with open_checkpoint(checkpoint, output, patterns) as (reader, patterns):
        selection = Selection(patterns, regex, exclude)
        if not (output.json or output.terminal or long or slices or reverse or top or sort != "name"):
            _print_heads(reader, selection, output, names_only=names_only)
        else:
            listing = list_tensors(reader, selection, sort=sort, reverse=reverse, top=top)
            _print_listing(reader, listing, output, names_only=names_only, long=long, slices=slices)
    for text in selection.unmatched:
        output.note(f"no tensor matches {text}")
    return 1 if selection.unmatched else 0


def _print_heads(reader: CheckpointReader, selection: Selection, output: Output, *, names_only: bool) -> None:
    """The piped listing without options: the index is read and printed as it comes, whatever its size."""
    heads = list_heads(reader, selection)
    if names_only:
        output.lines((name,) for name, _, _ in heads)
    else:
        output.lines((name, dtype.name, format_shape(shape)) for name, dtype, shape in heads)


def _print_listing(
    reader: CheckpointReader, listing: Listing, output: Output, *, names_only: bool, long: bool, slices: bool
) -> None:
    parts = {t.name: reader.slices(t.name) for t in listing.tensors if t.slices} if slices else {}
    if output.json:
        output.document("ls", _document(listing, parts))
    elif names_only:
        output.lines((tensor.name,) for tensor in listing.tensors)
    elif output.terminal:
        _print_table(listing, parts, output, long=long)
    elif slices:
        output.lines(_slice_fields(listing, parts, long=long))
    else:
        output.lines(map(_long_fields if long else _fields, listing.tensors))


def _document(listing: Listing, parts: dict[str, list[SliceInfo]]) -> dict[str, object]:
    fields = {field.name: getattr(listing, field.name) for field in dataclasses.fields(listing)}
    del fields["unmatched"]
    fields["tensors"] = [_tensor_object(tensor, parts.get(tensor.name)) for tensor in listing.tensors]
    return fields


def _tensor_object(tensor: TensorInfo, parts: list[SliceInfo] | None) -> dict[str, object]:
    fields = _with_hex(tensor)
    if parts is not None:
        fields["parts"] = [_with_hex(part) for part in parts]
    return fields


def _with_hex(info: TensorInfo | SliceInfo) -> dict[str, Any]:
    fields = {field.name: getattr(info, field.name) for field in dataclasses.fields(info)}
    return {**fields, "crc32c": _hex(info.crc32c)}


def _hex(crc: int | None) -> str | None:
    return None if crc is None else f"{crc:08x}"


def _fields(tensor: TensorInfo) -> tuple[str, ...]:
    return tensor.name, tensor.dtype.name, format_shape(tensor.shape)


def _long_fields(tensor: TensorInfo) -> tuple[str, ...]:
    counts = (tensor.parameters, tensor.bytes, tensor.role, tensor.shard, tensor.offset)
    return (*_fields(tensor), *map(field_text, (*counts, _hex(tensor.crc32c), tensor.slices)))


def _slice_fields(
    listing: Listing, parts: dict[str, list[SliceInfo]], *, long: bool
) -> Iterator[tuple[str, ...]]:
    """A line for each stored slice; a tensor stored whole is one slice without a specification."""
    for tensor in listing.tensors:
        pieces: list[TensorInfo | SliceInfo] = [*parts.get(tensor.name, ())] or [tensor]
        for piece in pieces:
            fields = (tensor.name, tensor.dtype.name, format_shape(piece.shape), getattr(piece, "slice", ""))
            place = (piece.bytes, *_place(piece, long)) if long else ()
            yield (*fields, *map(field_text, place))


def _print_table(listing: Listing, parts: dict[str, list[SliceInfo]], output: Output, *, long: bool) -> None:
    columns = [Column("name"), Column("dtype"), Column("shape"), Column("parameters", right=True)]
    columns += [Column("bytes", right=True)]
    if long:
        columns += [Column("shard", right=True), Column("offset", right=True), Column("crc32c")]
    # 80 columns have room for one more only where it says something.
    with_count = long and not parts and any(tensor.slices for tensor in listing.tensors)
    if with_count:
        columns.append(Column("slices", right=True))
    rows: list[tuple[str | int | None, ...]] = []
    for tensor in listing.tensors:
        count = (tensor.slices or None,) if with_count else ()
        size = human_bytes(tensor.bytes)
        rows.append((*_fields(tensor), tensor.parameters, size, *_place(tensor, long), *count))
        for part in parts.get(tensor.name, ()):
            size = "" if part.bytes is None else human_bytes(part.bytes)
            rows.append((f"  {part.slice}", None, format_shape(part.shape), None, size, *_place(part, long)))
    total = listing.total
    tensors = "1 tensor" if total.tensors == 1 else f"{total.tensors:,} tensors"
    footer = f"{tensors}, {total.parameters:,} parameters, {human_bytes(total.bytes)}"
    output.table(columns, rows, footer)


def _place(info: TensorInfo | SliceInfo, long: bool) -> tuple[str | int | None, ...]:
    return (info.shard, info.offset, _hex(info.crc32c)) if long else ()
