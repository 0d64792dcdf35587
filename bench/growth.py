"""How time and memory grow: over the number of tensors, and over the bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench import data
from bench.measure import Command, Sample, median_peak, median_wall, run_in_turn
from bench.plot import Line, Plot, svg
from bench.targets import MB, human_size, human_time
from bench.tools import Tools

_ROUNDS = 3

Series = dict[str, list[tuple[float, list[Sample]]]]
Commands = Callable[[Tools, str], Sequence[Command]]


def over_tensors(tools: Tools, prefix: str) -> Sequence[Command]:
    """What should depend on the number of tensors, and what should not."""
    return (
        tools.run("ls", "ls", prefix),
        tools.run("show of one", "show", prefix, data.small_name(471)),
    )


def over_bytes(tools: Tools, prefix: str) -> Sequence[Command]:
    """What goes through all bytes, and what does not."""
    shard = f"{prefix}.data-00000-of-00001"
    commands = [tools.run("ls", "ls", prefix)]
    if "verify" in tools.commands:
        commands.append(tools.run("verify", "verify", prefix))
    if "show --stats" in tools.commands:
        commands.append(tools.run("show --stats", "show", "--stats", prefix))
    return [*commands, tools.probe("read and CRC-32C in two threads", "checksum", shard)]


def measured(tools: Tools, root: Path, sizes: Sequence[tuple[float, str]], commands: Commands) -> Series:
    """The samples of each command on each part of the data, given as (size, part)."""
    series: Series = {}
    for size, part in sizes:
        chosen = commands(tools, data.prefix(root, part))
        for command, samples in zip(chosen, run_in_turn(chosen, _ROUNDS), strict=True):
            series.setdefault(command.label, []).append((size, samples))
    return series


def lines(series: Series, figure: Callable[[Sequence[Sample]], float]) -> tuple[Line, ...]:
    """A curve for each command."""
    return tuple(
        Line(name, tuple((size, figure(samples)) for size, samples in points))
        for name, points in series.items()
    )


def parts() -> list[str]:
    """The data it needs."""
    return [*map(data.TENSORS.format, data.MANY), *map(data.SIZED.format, data.MEGABYTES)]


def growth(tools: Tools, root: Path) -> str:
    """The picture, as SVG."""
    many = [(float(count), data.TENSORS.format(count)) for count in data.MANY]
    large = [(float(size) * MB, data.SIZED.format(size)) for size in data.MEGABYTES]
    by_count = measured(tools, root, many, over_tensors)
    by_size = measured(tools, root, large, over_bytes)
    return svg(
        (
            Plot("time over number of tensors", lines(by_count, median_wall), "{:,.0f}".format, human_time),
            Plot(
                "peak memory over number of tensors",
                lines(by_count, median_peak),
                "{:,.0f}".format,
                human_size,
            ),
            Plot("time over bytes", lines(by_size, median_wall), human_size, human_time),
            Plot("peak memory over bytes", lines(by_size, median_peak), human_size, human_size),
        )
    )
