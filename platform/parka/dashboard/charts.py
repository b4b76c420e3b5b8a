"""Pure functions from rows to charts. Rows are already limited to what the viewer may see.

Screen charts write our colour tokens (``var(--pk-s1)``) into the spec, so one SVG follows light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt

Chart = alt.LayerChart | alt.FacetChart
SERIES = tuple(f"var(--pk-s{number})" for number in range(1, 7))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
TEXT, MUTED, LINE, LINE_STRONG = "var(--pk-text)", "var(--pk-muted)", "var(--pk-line)", "var(--pk-line-strong)"
FONT = "Inter, ui-sans-serif, system-ui, sans-serif"
BULLET_WIDTH, BULLET_HEIGHT = 168.0, 22.0
ROW_HEIGHT, AXIS_HEIGHT = 34, 52
FRAME_PADDING = {"left": 18, "right": 12, "top": 6, "bottom": 6}
"""The page's font runs wider than the one that the converter measures labels with."""

NAMES = alt.Axis(labelLimit=260, labelColor=TEXT, labelFontSize=12, ticks=False, domain=False)
WIDTHS = (360, 560, 760, 1040)
FAR = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullet:
    """A value against its target as drawn in a table cell; coordinates in a box of 168 by 22.

    ``from_zero`` is False for shares near one, which are drawn as a dot on a zoomed axis.
    """

    x: float
    low: float | None
    high: float | None
    target: float | None
    from_zero: bool
    proven: bool
    width: float = BULLET_WIDTH
    height: float = BULLET_HEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoPoint:
    """A trial on two axes with the intervals of both; ``pick`` names why it is special, if it is."""

    trial: int
    label: str
    group: str
    x: float
    y: float
    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None
    on_front: bool = False
    proven: bool = True
    pick: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Title with unit, direction and an optional target line."""

    title: str
    lower_is_better: bool
    target: float | None = None
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadroomRow:
    """How far a KPI lies on the good side of its target, in percent of the target, with its interval."""

    label: str
    value: float
    low: float
    high: float
    proven: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceRow:
    """A finalist's speed-up over the baseline: its interval and the ratio of every block."""

    label: str
    estimate: float
    low: float
    high: float
    ratios: tuple[float, ...]


def bullet(*, value: float, low: float | None, high: float | None, target: float | None, from_zero: bool, proven: bool) -> Bullet:
    """Scale a value, its interval and its target into the box."""
    marks = [mark for mark in (value, low, high, target) if mark is not None and math.isfinite(mark)]
    start, end = (0.0, max(marks) * 1.15 or 1.0) if from_zero else _padded(min(marks), max(marks))

    def place(mark: float | None) -> float | None:
        if mark is None or not math.isfinite(mark):
            return None
        return round((mark - start) / (end - start) * BULLET_WIDTH, 1)

    return Bullet(x=place(value) or 0.0, low=place(low), high=place(high), target=place(target), from_zero=from_zero, proven=proven)


def pareto(points: Sequence[ParetoPoint], *, x: Axis, y: Axis, width: int) -> Chart:
    """Trials as points with interval crosses, the stepped frontier and dashed target lines."""
    groups = sorted({point.group for point in points})
    rows = alt.Data(values=[_pareto_row(point) for point in points])
    x_scale, y_scale = _scale(x), _scale(y)
    encode_x = alt.X("x:Q", title=x.title, scale=x_scale, axis=alt.Axis(tickCount=max(4, width // 110)))
    encode_y = alt.Y("y:Q", title=y.title, scale=y_scale, axis=alt.Axis(tickCount=6))
    shape = alt.Shape("group:N", scale=alt.Scale(domain=groups, range=_cycled(SHAPES, len(groups))), legend=_legend(groups))
    color = alt.Color("group:N", scale=alt.Scale(domain=groups, range=_cycled(SERIES, len(groups))), legend=_legend(groups))
    base = alt.Chart(rows)
    layers = [
        alt.Chart(alt.Data(values=_front_steps(points, x=x, y=y)))
        .mark_line(interpolate="linear", stroke=MUTED, strokeWidth=1)
        .encode(x="x:Q", y="y:Q", order="order:O"),
        base.transform_filter("isValid(datum.x_low)")
        .mark_rule(strokeWidth=1.25)
        .encode(x=alt.X("x_low:Q"), x2="x_high:Q", y="y:Q", color=color),
        base.transform_filter("isValid(datum.y_low)").mark_rule(strokeWidth=1.25).encode(x="x:Q", y="y_low:Q", y2="y_high:Q", color=color),
        base.transform_filter("datum.proven").mark_point(size=70, filled=True, opacity=1).encode(encode_x, encode_y, shape, color),
        base.transform_filter("!datum.proven")
        .mark_point(size=70, filled=False, strokeDash=[2, 2], strokeWidth=1.5, opacity=1)
        .encode(encode_x, encode_y, shape, color),
        base.mark_text(align="left", dx=9, dy=-9, fontSize=12, color=TEXT).encode(x="x:Q", y="y:Q", text="note:N"),
        *_target_lines(x, y),
    ]
    return _framed(alt.layer(*layers), width=width, height=round(min(width * 0.55, 420)))


def headroom(rows: Sequence[HeadroomRow], *, width: int) -> Chart:
    """All KPIs on one axis: percent of the target left, right is better, tightest first."""
    ordered = sorted(rows, key=lambda row: row.low)
    low, high = _room_span(ordered)
    values = [_headroom_row(row, low=low, high=high) for row in ordered]
    y = alt.Y("label:N", sort=[row.label for row in ordered], title=None, axis=NAMES)
    axis = alt.Axis(tickCount=6)
    x = alt.X("value:Q", title="Room to the target (%)", axis=axis, scale=alt.Scale(domain=[low, high], nice=False, clamp=True))
    base = alt.Chart(alt.Data(values=values))
    dot: dict[str, Any] = {"size": 70, "color": SERIES[0], "opacity": 1}
    layers = [
        alt.Chart(alt.Data(values=[{"x": 0}])).mark_rule(strokeDash=[4, 3], stroke=TEXT).encode(x="x:Q"),
        base.mark_rule(strokeWidth=2, stroke=TEXT).encode(x=alt.X("low:Q"), x2="high:Q", y=y),
        base.transform_filter("datum.proven").mark_point(filled=True, **dot).encode(x=x, y=y),
        base.transform_filter("!datum.proven").mark_point(filled=False, strokeDash=[2, 2], strokeWidth=1.5, **dot).encode(x=x, y=y),
        base.mark_text(align="center", dy=-12, fontSize=11, color=MUTED).encode(x=x, y=y, text="words:N"),
    ]
    return _framed(alt.layer(*layers), width=width, height=ROW_HEIGHT * max(len(ordered), 1) + AXIS_HEIGHT)


def interval_strip(rows: Sequence[RaceRow], *, margin: float, width: int) -> Chart:
    """Speed-up of each finalist per block as ticks, its interval as a bar; 1 and the margin around it are marked."""
    order = [row.label for row in rows]
    y = alt.Y("label:N", sort=order, title=None, axis=NAMES)
    blocks = [{"label": row.label, "ratio": ratio} for row in rows for ratio in row.ratios]
    spans = [{"label": row.label, "low": row.low, "high": row.high, "estimate": row.estimate} for row in rows]
    scale = alt.Scale(zero=False, nice=True)
    x_title = "Speed-up over the untouched baseline (×), right is faster"
    layers = [
        alt.Chart(alt.Data(values=[{"a": 1 - margin, "b": 1 + margin}])).mark_rect(color=LINE, opacity=0.8).encode(x="a:Q", x2="b:Q"),
        alt.Chart(alt.Data(values=[{"x": 1}])).mark_rule(strokeDash=[4, 3], stroke=TEXT).encode(x="x:Q"),
        alt.Chart(alt.Data(values=blocks))
        .mark_tick(thickness=1.25, size=14, color=MUTED, opacity=0.75)
        .encode(x=alt.X("ratio:Q", title=x_title, scale=scale), y=y),
        alt.Chart(alt.Data(values=spans)).mark_rule(strokeWidth=4, color=SERIES[0]).encode(x="low:Q", x2="high:Q", y=y),
        alt.Chart(alt.Data(values=spans)).mark_point(filled=True, size=80, color=SERIES[0], opacity=1).encode(x="estimate:Q", y=y),
    ]
    return _framed(alt.layer(*layers), width=width, height=ROW_HEIGHT * max(len(rows), 1) + AXIS_HEIGHT)


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = (high - low) * 0.25 or abs(high) * 0.05 or 1.0
    return low - pad, high + pad


def _scale(axis: Axis) -> alt.Scale:
    return alt.Scale(type="log") if axis.log else alt.Scale(zero=False, nice=True, padding=24)


def _cycled(values: Sequence[str], count: int) -> list[str]:
    return [values[place % len(values)] for place in range(count)]


def _legend(groups: Sequence[str]) -> alt.Legend | None:
    if len(groups) < 2:
        return None
    return alt.Legend(title=None, orient="top", labelColor=TEXT, labelFontSize=12, symbolSize=70, labelLimit=260, columns=2)


def _pareto_row(point: ParetoPoint) -> dict[str, Any]:
    return {
        "x": point.x,
        "y": point.y,
        "x_low": point.x_low if point.x_high is not None else None,
        "x_high": point.x_high,
        "y_low": point.y_low if point.y_high is not None else None,
        "y_high": point.y_high,
        "group": point.group,
        "proven": point.proven,
        "note": f"{point.trial} {point.pick}".strip() if point.pick or point.on_front or point.trial == 0 else "",
    }


def _front_steps(points: Sequence[ParetoPoint], *, x: Axis, y: Axis) -> list[dict[str, float]]:
    """Corners of the frontier: between two of its points the reachable value is the worse of both."""
    front = sorted((point for point in points if point.on_front), key=lambda point: point.x, reverse=not x.lower_is_better)
    corners: list[tuple[float, float]] = []
    for before, after in pairwise(front):
        corners += [(before.x, before.y), (after.x, before.y)]
    corners += [(point.x, point.y) for point in front[-1:]]
    return [{"x": place[0], "y": place[1], "order": number} for number, place in enumerate(corners)]


def _target_lines(x: Axis, y: Axis) -> list[alt.Chart]:
    lines = []
    if x.target is not None:
        lines.append(alt.Chart(alt.Data(values=[{"x": x.target}])).mark_rule(strokeDash=[4, 3], stroke=TEXT).encode(x="x:Q"))
        label = alt.Chart(alt.Data(values=[{"x": x.target, "words": f"target {x.target:g}"}]))
        lines.append(label.mark_text(align="left", dx=5, y=8, fontSize=11, color=MUTED).encode(x="x:Q", text="words:N"))
    if y.target is not None:
        lines.append(alt.Chart(alt.Data(values=[{"y": y.target}])).mark_rule(strokeDash=[4, 3], stroke=TEXT).encode(y="y:Q"))
        label = alt.Chart(alt.Data(values=[{"y": y.target, "words": f"target {y.target:g}"}]))
        lines.append(label.mark_text(align="left", dy=-7, x=4, fontSize=11, color=MUTED).encode(y="y:Q", text="words:N"))
    return lines


def _room_span(rows: Sequence[HeadroomRow]) -> tuple[float, float]:
    """The axis: always with the target at 0, at least 5% wide on the good side, never beyond ±60%."""
    low = max(min([row.low for row in rows] + [0.0]), -FAR)
    high = min(max([row.high for row in rows] + [5.0]), FAR)
    pad = (high - low) * 0.06
    return low - pad, high + pad


def _headroom_row(row: HeadroomRow, *, low: float, high: float) -> dict[str, Any]:
    beyond = "→ " if row.value > high else "← " if row.value < low else ""
    size = f"{row.value:+.2g}%" if abs(row.value) < 1 else f"{row.value:+.0f}%"
    shown = {name: max(low, min(high, getattr(row, name))) for name in ("value", "low", "high")}
    return {"label": row.label, **shown, "proven": row.proven, "words": f"{beyond}{size}"}


def _framed(chart: Chart, *, width: int, height: int) -> Chart:
    axis = {
        "gridColor": LINE,
        "domainColor": LINE_STRONG,
        "tickColor": LINE_STRONG,
        "labelColor": MUTED,
        "titleColor": MUTED,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
    }
    config = {"font": FONT, "aria": False, "background": "transparent", "view": {"stroke": None}, "axis": axis}
    return chart.properties(
        width=width, height=height, config=config, padding=FRAME_PADDING, autosize={"type": "fit", "contains": "padding"}
    )
