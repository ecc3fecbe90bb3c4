"""Bars of ratios as SVG, with whiskers for the quartiles; the scale is logarithmic, from 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

LEFT, WIDTH, RIGHT, STEP, TOP, FOOT = 190, 470, 170, 20, 44, 26
OURS, THEIRS, NOISE = "#2463b4", "#9a9a9a", "#e3c878"


class Bar(NamedTuple):
    """One candidate: quartiles of its ratio, or why there is none."""

    name: str
    low: float
    median: float
    high: float
    is_ours: bool
    failure: str = ""


def position(value: float, most: float) -> float:
    """Return how far right a ratio lies: 1 at the left, *most* at the right; below 1 is at the left."""
    return WIDTH * math.log(max(value, 1.0)) / math.log(most)


def ticks(most: float) -> list[float]:
    """Return the ratios that get a line."""
    return [
        value
        for value in (1, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500)
        if value <= most and apart(value, most)
    ]


def apart(value: float, most: float) -> bool:
    """Tell whether a line here can be told from its neighbours."""
    return value == 1 or position(value, most) > WIDTH / 18


def chart(title: str, bars: Sequence[Bar], noise: tuple[float, float]) -> str:
    """Return an SVG document. The noise of the machine is a band behind the bars."""
    most = max(1.1, *(bar.high for bar in bars if not bar.failure), noise[1]) * 1.05 if bars else 2.0
    height = TOP + STEP * len(bars) + FOOT
    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{LEFT + WIDTH + RIGHT}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
        box(TOP - 6, position(noise[1], most), STEP * len(bars) + 6, NOISE),
    ]
    for value in ticks(most):
        x = LEFT + position(value, most)
        found.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - FOOT}" stroke="#ccc"/>')
        found.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle" fill="#555">{value:g}</text>')
    for number, bar in enumerate(bars):
        found += drawn(bar, TOP + STEP * number, most)
    return "\n".join([*found, "</svg>", ""])


def drawn(bar: Bar, y: float, most: float) -> list[str]:
    """Return one bar."""
    name = f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(bar.name)}</text>'
    if bar.failure:
        return [name, f'<text x="{LEFT + 6}" y="{y + 12}" fill="#a00">{escape(bar.failure[:60])}</text>']
    low, median, high = (LEFT + position(value, most) for value in (bar.low, bar.median, bar.high))
    return [
        name,
        box(y + 2, median - LEFT, STEP - 7, OURS if bar.is_ours else THEIRS),
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 8}" y2="{y + 8}" stroke="black"/>',
        f'<text x="{high + 6:.1f}" y="{y + 12}">{bar.median:.3f} [{bar.low:.3f} … {bar.high:.3f}]</text>',
    ]


def box(y: float, width: float, height: float, colour: str) -> str:
    """Return a box that begins at a ratio of 1."""
    return f'<rect x="{LEFT}" y="{y}" width="{max(1.0, width):.1f}" height="{height}" fill="{colour}"/>'
