"""Charts as inline SVG.

All positions are percentages of the drawing area, so that a chart is as wide as its surroundings while text
and lines keep their size. Colours come from the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from tm_export.exporters.records import MergeSite


def token_chart(sites: Sequence[MergeSite]) -> Markup:
    """Draw how many tokens there are before, between and after the sites, in their order; at least one site.

    A site that does not begin with the tokens that the one before it left works on another stream of tokens:
    there, half-way between the two, the curve jumps along a dotted line.
    """
    ticks = _round_steps(max(max(site.tokens_before, site.tokens_after) for site in sites))
    top = ticks[-1]
    last = len(sites)

    def x(position: float) -> str:
        return f"{100 * position / (last + 1):.2f}%"

    def y(tokens: float) -> str:
        return f"{100 * (1 - tokens / top):.2f}%"

    # Site i stands at position i + 1; a stretch is half of the way between two positions.
    halves = [(0.0, 1.0, sites[0].tokens_before)]
    for i, (site, following) in enumerate(pairwise(sites), start=1):
        halves += [(i, i + 0.5, site.tokens_after), (i + 0.5, i + 1, following.tokens_before)]
    halves.append((last, last + 1, sites[-1].tokens_after))

    parts = [
        Markup('<rect class="area" x="{}" y="{}" width="{}" height="{}"/>').format(
            x(start), y(tokens), x(end - start), y(top - tokens)
        )
        for start, end, tokens in halves
    ]
    parts += [
        Markup('<line class="grid" x1="0%" x2="100%" y1="{0}" y2="{0}"/>').format(y(tick))
        + Markup('<text class="tick" x="0%" dx="-8" dy="4" y="{}" text-anchor="end">{}</text>').format(
            y(tick), tick
        )
        for tick in ticks
    ]
    parts += [
        Markup('<line class="curve" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
            x(start), x(end), y=y(tokens)
        )
        for start, end, tokens in halves
    ]
    for (_, here, left), (_, _, right) in pairwise(halves):
        if left != right:
            shape = "curve" if here == int(here) else "jump"
            parts.append(
                Markup('<line class="{}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(
                    shape, y(left), y(right), x=x(here)
                )
            )
    parts += [
        Markup('<circle class="site {}" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(
            site.kind, x(i), y(site.tokens_after), _description(i, site)
        )
        for i, site in enumerate(sites, start=1)
    ]
    numbered = range(1, last + 1, math.ceil(last / 10))
    parts += [
        Markup('<text class="tick" x="{}" y="100%" dy="18" text-anchor="middle">{}</text>').format(x(i), i)
        for i in numbered
    ]
    return Markup(
        '<svg class="tokens" role="img" aria-label="Tokens along the network: {} to {}">{}</svg>'
    ).format(sites[0].tokens_before, sites[-1].tokens_after, Markup("").join(parts))


def bar(value: float, largest: float, style: str = "") -> Markup:
    """Draw a horizontal bar as long as `value` is of `largest`; `style` is a class of the style sheet."""
    width = 100 * value / largest if largest > 0 else 0.0
    return Markup(
        '<svg class="bar" aria-hidden="true"><rect class="track" width="100%" height="100%"/>'
        '<rect class="fill {}" width="{:.2f}%" height="100%"/></svg>'
    ).format(style, width)


def _description(number: int, site: MergeSite) -> str:
    return f"{number}. {site.kind}: {site.tokens_before} → {site.tokens_after} tokens\n{site.source}"


def _round_steps(largest: int) -> list[int]:
    """From 0 in at most five equal steps of 1, 2 or 5 times a power of ten to `largest` or just above it."""
    magnitude = 10 ** max(0, math.floor(math.log10(max(largest, 1))) - 1)
    step = next(s * magnitude for s in (1, 2, 5, 10, 20, 50) if 5 * s * magnitude >= largest)
    return list(range(0, largest + step, step))
