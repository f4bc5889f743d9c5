"""Small bar charts as SVG, drawn on the server. Pure: numbers in, coordinates out; the template writes them down.

Every chart has a title and a sentence that says what it shows, every bar its own text; the page has the same numbers
as a table. Colour is never the only difference: a second series is hatched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.utils.html import escape
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 360.0, 120.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 17.0, 8.0, 18.0  # left: "100%" as phones show it; right: half of the last label
_GAP = 0.22


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    series: int


@dataclass(frozen=True)
class Column:
    """All bars of one bucket, with the text that says its numbers."""

    text: str
    bars: list[Bar]

    def drawn(self, key: str) -> SafeString:
        """Written here and not by a template: a page has a few hundred bars, and they are nothing but numbers."""
        found = [f"<g><title>{escape(self.text)}</title>"]
        for bar in self.bars:
            place = f'x="{bar.x:.2f}" y="{bar.y:.2f}" width="{bar.width:.2f}" height="{bar.height:.2f}"'
            kind = f'class="second" fill="url(#hatch-{escape(key)})"' if bar.series else 'class="first"'
            found.append(f"<rect {kind} {place}/>")
        return SafeString("".join([*found, "</g>"]))


@dataclass(frozen=True)
class Label:
    x: float
    text: str


@dataclass(frozen=True)
class Chart:
    """`summary` is what a person who cannot see the bars wants to know."""

    key: str
    title: str
    summary: str
    legend: list[str]
    columns: list[Column]
    labels: list[Label]
    top: str
    is_empty: bool
    baseline: float = HEIGHT - BOTTOM
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right_edge: float = WIDTH - RIGHT
    top_line: float = TOP
    classes: list[str] = field(default_factory=list)

    @property
    def drawing(self) -> SafeString:
        return SafeString("".join(column.drawn(self.key) for column in self.columns))


def bar_chart(
    key: str,
    title: str,
    summary: str,
    *,
    series: Sequence[tuple[str, Sequence[float]]],
    texts: Sequence[str],
    labels: Sequence[str],
    top: float | None = None,
    top_text: str = "",
    css: Sequence[str] = ("first", "second"),
) -> Chart:
    """`series`: name and values, stacked from below. `labels`: one per bucket, "" where the axis stays empty."""
    sums = [sum(values) for values in zip(*(values for _, values in series), strict=True)]
    highest = top if top is not None else nice_top(max(sums, default=0))
    step = (WIDTH - LEFT - RIGHT) / max(1, len(sums))
    columns = [
        Column(text, _stack([values[index] for _, values in series], LEFT + index * step, step, highest))
        for index, text in enumerate(texts)
    ]
    marks = [Label(round(LEFT + (index + 0.5) * step, 1), text) for index, text in enumerate(labels) if text]
    return Chart(
        key=key,
        title=title,
        summary=summary,
        legend=[name for name, _ in series],
        columns=columns,
        labels=marks,
        top=top_text or f"{highest:g}",
        is_empty=not any(sums),
        classes=list(css),
    )


def nice_top(highest: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 ...: an axis whose end people can read."""
    size = 1.0
    while True:
        for factor in (1, 2, 5):
            if highest <= factor * size:
                return factor * size
        size *= 10


def _stack(values: Sequence[float], x: float, step: float, highest: float) -> list[Bar]:
    room = HEIGHT - TOP - BOTTOM
    floor, bars = HEIGHT - BOTTOM, []
    for number, value in enumerate(values):
        # What is not nothing is seen, however small beside the highest bar.
        height = max(1.5, value / highest * room) if value else 0.0
        floor -= height
        if value:
            bars.append(Bar(x + step * _GAP / 2, floor, step * (1 - _GAP), height, number))
    return bars
