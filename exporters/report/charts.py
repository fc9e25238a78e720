"""Charts as inline SVG.

All positions are percentages of the drawing area, so that a chart is as wide as its surroundings while text
and lines keep their size. Colours come from the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from tm_export.exporters.record.records import MergeSite


def token_chart(sites: Sequence[MergeSite]) -> Markup:
    """Draw how many tokens there are before, between and after the sites, in their order; at least one site.

    A site that does not begin with the tokens that the one before it left works on another stream of tokens:
    there, half-way between the two, the curve jumps along a dotted line.
    """
    ticks = _round_steps(max(max(site.tokens_before, site.tokens_after) for site in sites))
    frame = _Frame(num_sites=len(sites), top=ticks[-1])
    stretches = _stretches(sites)
    parts = [
        *(_area(frame, stretch) for stretch in stretches),
        *(_grid_line(frame, tick) for tick in ticks),
        *(_level(frame, stretch) for stretch in stretches),
        *(_step(frame, left, right) for left, right in pairwise(stretches) if left.tokens != right.tokens),
        *(_dot(frame, number, site) for number, site in enumerate(sites, start=1)),
        *(_number(frame, number) for number in range(1, len(sites) + 1, math.ceil(len(sites) / 10))),
    ]
    return Markup('<svg class="tokens" role="img" aria-label="Tokens along the network: {} to {}">{}</svg>').format(
        sites[0].tokens_before, sites[-1].tokens_after, Markup("").join(parts)
    )


def bar(value: float, largest: float, style: str = "") -> Markup:
    """Draw a horizontal bar as long as `value` is of `largest`; `style` is a class of the style sheet."""
    width = 100 * value / largest if largest > 0 else 0.0
    return Markup(
        '<svg class="bar" aria-hidden="true"><rect class="track" width="100%" height="100%"/>'
        '<rect class="fill {}" width="{:.2f}%" height="100%"/></svg>'
    ).format(style, width)


@dataclass(frozen=True)
class _Frame:
    """The drawing area: sites stand at 1, 2, … from left to right, `top` tokens are its height."""

    num_sites: int
    top: int

    def x(self, position: float) -> str:
        return f"{100 * position / (self.num_sites + 1):.2f}%"

    def y(self, tokens: int) -> str:
        return f"{100 * (1 - tokens / self.top):.2f}%"


@dataclass(frozen=True)
class _Stretch:
    """A part of the network through which the number of tokens stays the same."""

    start: float
    end: float
    tokens: int


def _stretches(sites: Sequence[MergeSite]) -> list[_Stretch]:
    """Two stretches between neighbouring sites, since the second may begin on another stream of tokens."""
    stretches = [_Stretch(0, 1, sites[0].tokens_before)]
    for number, (site, following) in enumerate(pairwise(sites), start=1):
        stretches.append(_Stretch(number, number + 0.5, site.tokens_after))
        stretches.append(_Stretch(number + 0.5, number + 1, following.tokens_before))
    return [*stretches, _Stretch(len(sites), len(sites) + 1, sites[-1].tokens_after)]


def _area(frame: _Frame, stretch: _Stretch) -> Markup:
    return Markup('<rect class="area" x="{}" y="{}" width="{}" height="{}"/>').format(
        frame.x(stretch.start),
        frame.y(stretch.tokens),
        frame.x(stretch.end - stretch.start),
        frame.y(frame.top - stretch.tokens),
    )


def _grid_line(frame: _Frame, tick: int) -> Markup:
    return Markup(
        '<line class="grid" x1="0%" x2="100%" y1="{y}" y2="{y}"/>'
        '<text class="tick" x="0%" dx="-8" dy="4" y="{y}" text-anchor="end">{tick}</text>'
    ).format(y=frame.y(tick), tick=tick)


def _level(frame: _Frame, stretch: _Stretch) -> Markup:
    return Markup('<line class="curve" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
        frame.x(stretch.start), frame.x(stretch.end), y=frame.y(stretch.tokens)
    )


def _step(frame: _Frame, left: _Stretch, right: _Stretch) -> Markup:
    at_site = float(right.start).is_integer()
    return Markup('<line class="{}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(
        "curve" if at_site else "jump", frame.y(left.tokens), frame.y(right.tokens), x=frame.x(right.start)
    )


def _dot(frame: _Frame, number: int, site: MergeSite) -> Markup:
    tooltip = f"{number}. {site.kind}: {site.tokens_before} → {site.tokens_after} tokens\n{site.source}"
    return Markup('<circle class="site {}" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(
        site.kind, frame.x(number), frame.y(site.tokens_after), tooltip
    )


def _number(frame: _Frame, number: int) -> Markup:
    return Markup('<text class="tick" x="{}" y="100%" dy="18" text-anchor="middle">{}</text>').format(
        frame.x(number), number
    )


def _round_steps(largest: int) -> list[int]:
    """From 0 in at most five equal steps of 1, 2 or 5 times a power of ten to `largest` or just above it."""
    magnitude = 10 ** max(0, math.floor(math.log10(max(largest, 1))) - 1)
    step = next(s * magnitude for s in (1, 2, 5, 10, 20, 50) if 5 * s * magnitude >= largest)
    return list(range(0, largest + step, step))
