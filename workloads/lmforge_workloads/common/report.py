"""report.html: the run on one page that needs nothing else, its curves as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lmforge_workloads.common.metrics import Record

Point = tuple[float, float]

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 28  # margins
_MOST_POINTS = 600
_COLOURS = ("#2563eb", "#dc2626")
_CURVES: Mapping[str, Mapping[str, str]] = {
    "Loss (nats a token)": {"loss": "training", "evaluation_loss": "evaluation"},
    "Learning rate": {"learning_rate": ""},
    "Gradient norm": {"gradient_norm": ""},
    "Tokens a second": {"tokens_per_second": ""},
}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;color:#1f2937}"
    "td{padding:.1rem 1.5rem .1rem 0;vertical-align:top}td:first-child{color:#6b7280}"
    "svg{width:100%;height:auto;font-size:12px}"
)


def report(title: str, *, facts: Mapping[str, str], records: Sequence[Record]) -> str:
    """An HTML page: a table of facts, and a curve of everything that was measured."""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts.items())
    figures = "".join(
        f"<h2>{escape(heading)}</h2>{chart(series)}"
        for heading, names in _CURVES.items()
        if (series := {label: points for name, label in names.items() if (points := _points(records, name))})
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1><table>{rows}</table>{figures}</html>\n"
    )


def chart(series: Mapping[str, Sequence[Point]]) -> str:
    """Curves over steps as one SVG. Points that are not finite are left out."""
    finite = {label: [p for p in points if math.isfinite(p[1])] for label, points in series.items()}
    everything = [point for points in finite.values() for point in points]
    if not everything:
        return "<p>Nothing finite was measured.</p>"
    x = _Axis.around([point[0] for point in everything], start=_LEFT, end=_WIDTH - _RIGHT)
    y = _Axis.around([point[1] for point in everything], start=_HEIGHT - _BOTTOM, end=_TOP)
    curves = "".join(_curve(points, x, y, colour) for points, colour in zip(finite.values(), _COLOURS, strict=False))
    legend = "".join(
        f'<text x="{_WIDTH - _RIGHT}" y="{_TOP + 14 * n}" text-anchor="end" fill="{colour}">{escape(label)}</text>'
        for n, (label, colour) in enumerate(zip(finite, _COLOURS, strict=False), start=1)
    )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{_grid(x, y)}{curves}{legend}</svg>'


@dataclass(frozen=True)
class _Axis:
    """Maps values from `low` to `high` to pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Sequence[float], *, start: float, end: float) -> "_Axis":
        low, high = min(values), max(values)
        room = 0.5 * abs(low) or 0.5 if low == high else 0.0
        return cls(low - room, high + room, start, end)

    def pixel(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Four to ten round values."""
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(factor for factor in (5, 2, 1) if (self.high - self.low) / (step * factor) >= 4)
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _curve(points: Sequence[Point], x: _Axis, y: _Axis, colour: str) -> str:
    thinned = points[:: math.ceil(len(points) / _MOST_POINTS)] if points else []
    path = " ".join(f"{x.pixel(step):.1f},{y.pixel(value):.1f}" for step, value in thinned)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _grid(x: _Axis, y: _Axis) -> str:
    rows = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}" stroke="#e5e7eb"/>'
        f'<text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
        for tick, height in ((tick, y.pixel(tick)) for tick in y.ticks())
    )
    return rows + "".join(
        f'<text x="{x.pixel(tick):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{tick:.6g}</text>' for tick in x.ticks()
    )


def _points(records: Sequence[Record], name: str) -> list[Point]:
    return [(record["step"], record[name]) for record in records if name in record]
