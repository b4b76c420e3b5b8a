"""Charts with their finding, legend and data table, ready for a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from django.utils.safestring import SafeString

from optimizer.kpis import Direction, kpi
from optimizer.score.evidence import TrialEvidence
from optimizer.score.pareto import front
from optimizer.score.wording import format_measurement, title_of
from optimizer.specs import Duel, Effect, KpiTarget, Measurement, SearchOutcome, Verdict
from parka.dashboard import charts
from parka.dashboard.svg import compile_chart

TrialLink = Callable[[int], str]
WIDTHS = (360, 560, 760, 1040)
DEFAULT_WIDTH = 760
PICK_NAMES = {"cheapest": "Cheapest that passes", "fastest": "Fastest that passes", "balanced": "Balanced"}
CHOICES = (
    "latency_p50_ms",
    "latency_p90_ms",
    "throughput_per_s",
    "cost_usd_per_million_inferences",
    "memory_peak_host_bytes",
    "model_size_bytes",
    "cold_start_ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCell:
    """A cell of a chart's data table."""

    text: str
    href: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart as the page shows it; ``svg`` None when it could not be drawn."""

    id: str
    finding: str
    label: str
    svg: SafeString | None
    legend: str = ""
    heads: tuple[str, ...] = ()
    cells: tuple[tuple[DataCell, ...], ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class PickView:
    """A named recommendation."""

    name: str
    trial: int
    label: str = ""


def width_of(cookie: str | None) -> int:
    """The chart width the browser asked for by cookie, if it is one we draw."""
    return int(cookie) if cookie in {str(width) for width in WIDTHS} else DEFAULT_WIDTH


def headroom_figure(rows: Sequence[charts.HeadroomRow], *, width: int) -> Figure | None:
    """Room to every target on one axis; None without targets."""
    if not rows:
        return None
    tightest = min(rows, key=lambda row: row.low)
    finding = (
        f"Tightest is {tightest.label}: {_percent(tightest.value)} of its target left"
        if tightest.value >= 0
        else (f"{tightest.label} misses its target by {_percent(-tightest.value)}")
    )
    return _figure(
        "headroom",
        charts.headroom(rows, width=width),
        finding=f"{finding}.",
        label="Room to each target in percent of the target",
        legend="Dashed line: the target. Whiskers: 95% interval. Hollow: not proven.",
        heads=("KPI", "Room", "from", "to"),
        cells=[(row.label, _percent(row.value), _percent(row.low), _percent(row.high)) for row in sorted(rows, key=lambda row: row.low)],
    )


def race_figure(
    duels: Sequence[Duel], labels: dict[int, str], *, objective: str, margin: float, width: int, trial_link: TrialLink
) -> Figure | None:
    """The race: every finalist's ratio to the baseline per block, on the objective; None when nothing raced."""
    shown = [duel for duel in duels if duel.kpi == objective and duel.speedup.value is not None] or [
        duel for duel in duels if duel.speedup.value is not None
    ]
    if not shown:
        return None
    best = max(shown, key=lambda duel: duel.speedup.value or 0.0)
    rows = [_race_row(duel, labels) for duel in shown]
    return _figure(
        "race",
        charts.interval_strip(rows, margin=margin, width=width),
        finding=_race_finding(best),
        label=f"Speed-up of each finalist over the untouched baseline on {title_of(best.kpi)}",
        legend=f"Ticks: one block each, every start a fresh process. Bar: {best.speedup.confidence:.1%} interval. "
        f"Grey: the margin of {margin:.0%} within which two count as equal.",
        heads=("Trial", "Speed-up", "Blocks", "Decision"),
        cells=[(f"Trial {duel.trial}", format_measurement(duel.speedup), str(duel.blocks), str(duel.effect)) for duel in shown],
        links=[trial_link(duel.trial) for duel in shown],
    )


def pareto_figure(
    evidence: dict[int, TrialEvidence],
    *,
    x: str,
    y: str,
    log: frozenset[str],
    outcome: SearchOutcome | None,
    picks: dict[str, int],
    targets: Sequence[KpiTarget],
    width: int,
    trial_link: TrialLink,
) -> Figure | None:
    """Trials that have both numbers; None below two of them."""
    points = _points(evidence, x=x, y=y, picks=picks)
    if len(points) < 2:
        return None
    axes = (_axis(x, targets, log="x" in log), _axis(y, targets, log="y" in log))
    best = [point for point in points if point.on_front]
    return _figure(
        "pareto",
        charts.pareto(points, x=axes[0], y=axes[1], width=width),
        finding=_trade_off(best, x=x, y=y),
        label=f"{title_of(x)} against {title_of(y)} of {len(points)} trials",
        legend="Crosses: 95% intervals. Line: the frontier. Dashed: targets. Hollow: outputs not proven equal.",
        heads=("Trial", title_of(x), title_of(y), "On the frontier"),
        cells=[
            (
                f"Trial {point.trial}",
                _printed(evidence, point.trial, x),
                _printed(evidence, point.trial, y),
                "yes" if point.on_front else "no",
            )
            for point in points
        ],
        links=[trial_link(point.trial) for point in points],
    )


def pick_views(picks: dict[str, int], labels: dict[int, str]) -> list[PickView]:
    """The named picks in reading order."""
    return [PickView(name=PICK_NAMES.get(name, name), trial=trial, label=labels.get(trial, "")) for name, trial in picks.items()]


def axis_choices(evidence: dict[int, TrialEvidence]) -> list[str]:
    """KPIs that at least two trials have."""
    return [name for name in CHOICES if sum(one.get(name) is not None for one in evidence.values()) >= 2]


def _points(evidence: dict[int, TrialEvidence], *, x: str, y: str, picks: dict[str, int]) -> list[charts.ParetoPoint]:
    usable = [one for one in evidence.values() if _value(one.get(x)) is not None and _value(one.get(y)) is not None]
    if not usable:
        return []
    signed = np.array([[_signed(one, x), _signed(one, y)] for one in usable], dtype=float)
    special: dict[int, str] = {}
    for name, trial in picks.items():
        special[trial] = ", ".join(filter(None, (special.get(trial), name)))
    return [
        _point(one, x=x, y=y, on_front=bool(keep), pick=special.get(one.trial, "")) for one, keep in zip(usable, front(signed), strict=True)
    ]


def _point(one: TrialEvidence, *, x: str, y: str, on_front: bool, pick: str) -> charts.ParetoPoint:
    across, up = one.measurements[x], one.measurements[y]
    factor_x, factor_y = _factor(x), _factor(y)
    return charts.ParetoPoint(
        trial=one.trial,
        label=one.label,
        group="baseline" if one.trial == 0 else _group(one.label),
        x=(across.value or 0.0) * factor_x,
        y=(up.value or 0.0) * factor_y,
        x_low=_scaled(across.ci_low, factor_x),
        x_high=_scaled(across.ci_high, factor_x),
        y_low=_scaled(up.ci_low, factor_y),
        y_high=_scaled(up.ci_high, factor_y),
        on_front=on_front,
        proven=one.trial == 0 or one.fidelity is Verdict.PASS,
        pick=pick,
    )


def _group(label: str) -> str:
    """The backend with its precision: what a recipe's label says after its passes."""
    return label.split(" · ")[1] if " · " in label else label


def _axis(name: str, targets: Sequence[KpiTarget], *, log: bool) -> charts.Axis:
    metric = kpi(name)
    target = next((one.value for one in targets if one.kpi == name and not one.relative), None)
    unit = "MiB" if metric.unit == "bytes" else metric.unit
    return charts.Axis(
        title=f"{metric.title} ({unit})",
        lower_is_better=metric.direction is Direction.LOWER,
        target=_scaled(target, _factor(name)),
        log=log,
    )


def _trade_off(best: Sequence[charts.ParetoPoint], *, x: str, y: str) -> str:
    if len(best) == 1:
        return f"Trial {best[0].trial} is best on both {title_of(x)} and {title_of(y)}."
    return f"{len(best)} trials trade {title_of(x)} against {title_of(y)}: none of them is worse on both."


def _race_finding(best: Duel) -> str:
    subject = f"Trial {best.trial} is {format_measurement(best.speedup)} as fast as the untouched baseline on {title_of(best.kpi)}"
    doubts = {Effect.EQUIVALENT: ", which counts as equal", Effect.INCONCLUSIVE: ", which is not decided"}
    return f"{subject}{doubts.get(best.effect, '')}."


def _race_row(duel: Duel, labels: dict[int, str]) -> charts.RaceRow:
    one = duel.speedup
    value = one.value or 1.0
    low, high = (value if end is None else end for end in (one.ci_low, one.ci_high))
    return charts.RaceRow(
        label=_short(f"{duel.trial}  {labels.get(duel.trial, '')}"), estimate=value, low=low, high=high, ratios=duel.ratios
    )


def _short(label: str) -> str:
    return label if len(label) <= 40 else f"{label[:39]}…"


def _printed(evidence: dict[int, TrialEvidence], trial: int, name: str) -> str:
    return format_measurement(evidence[trial].get(name))


def _value(one: Measurement | None) -> float | None:
    return None if one is None else one.value


def _signed(one: TrialEvidence, name: str) -> float:
    value = one.measurements[name].value or 0.0
    return value if kpi(name).direction is Direction.LOWER else -value


def _factor(name: str) -> float:
    return 1 / 2**20 if kpi(name).unit == "bytes" else 1.0


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _percent(value: float) -> str:
    return f"{value:.2g}%" if abs(value) < 10 else f"{value:.0f}%"


def _figure(
    name: str,
    chart: charts.Chart,
    *,
    finding: str,
    label: str,
    legend: str,
    heads: tuple[str, ...],
    cells: Iterable[tuple[str, ...]],
    links: Sequence[str] = (),
) -> Figure:
    rows = tuple(
        tuple(DataCell(text=text, href=links[number] if links and place == 0 else "") for place, text in enumerate(row))
        for number, row in enumerate(cells)
    )
    svg = compile_chart(chart.to_dict(), label=label)
    return Figure(id=name, finding=finding, label=label, svg=svg, legend=legend, heads=heads, cells=rows)
