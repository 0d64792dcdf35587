"""Growth as a picture: small log-log plots in one SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 360, 250  # of one plot, in user units
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 34, 30, 34
_COLOURS = ("#0b6bcb", "#c2410c", "#15803d", "#7e22ce")


@dataclass(frozen=True)
class Line:
    """One curve: its name and its points, all coordinates above zero."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Plot:
    """Curves over a common axis; `x_text` and `y_text` name the marks on the axes."""

    title: str
    lines: tuple[Line, ...]
    x_text: Callable[[float], str]
    y_text: Callable[[float], str]


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten between which the values lie, at least one apart."""
    low = math.floor(math.log10(min(values)) + 1e-9)
    high = math.ceil(math.log10(max(values)) - 1e-9)
    return low, max(high, low + 1)


def svg(plots: Sequence[Plot], columns: int = 2) -> str:
    """The plots side by side, row by row."""
    rows = -(-len(plots) // columns)
    width, height = columns * _WIDTH, rows * _HEIGHT
    body = []
    for number, plot in enumerate(plots):
        x, y = number % columns * _WIDTH, number // columns * _HEIGHT
        body += [f'<g transform="translate({x},{y})">', *_drawn(plot), "</g>"]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *body,
            "</svg>\n",
        )
    )


def _drawn(plot: Plot) -> Iterator[str]:
    points = [point for line in plot.lines for point in line.points]
    x_low, x_high = decades([x for x, _ in points])
    y_low, y_high = decades([y for _, y in points])

    def at_x(value: float) -> float:
        return _LEFT + (math.log10(value) - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)

    def at_y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (math.log10(value) - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    yield f'<text x="{_LEFT}" y="18" font-weight="bold" fill="#222">{escape(plot.title)}</text>'
    for power in range(x_low, x_high + 1):
        x = at_x(10.0**power)
        yield f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#ddd"/>'
        text = escape(plot.x_text(10.0**power))
        yield f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle" fill="#555">{text}</text>'
    for power in range(y_low, y_high + 1):
        y = at_y(10.0**power)
        yield f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
        text = escape(plot.y_text(10.0**power))
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{text}</text>'
    for number, line in enumerate(plot.lines):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line.points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for x, y in line.points:
            yield f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="2.5" fill="{colour}"/>'
        label_y = _TOP + 14 + 14 * number
        yield f'<text x="{_LEFT + 8}" y="{label_y}" fill="{colour}">{escape(line.name)}</text>'
