"""A stored scorecard as rows to print: texts, bullets, the room to each target."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optimizer.codec import from_jsonable
from optimizer.kpis import kpi
from optimizer.measure.verdict import ratio_target
from optimizer.score.change import Change
from optimizer.score.rows import ScoreRow, Standing
from optimizer.score.scorecard import Scorecard
from optimizer.score.wording import format_measurement, format_needed, format_target, format_value
from optimizer.specs import KpiTarget, Measurement, Operator, Validity
from parka.dashboard.charts import Bullet, HeadroomRow, bullet
from parka.scorecards.models import Scorecard as StoredScorecard

SHARES = ("fraction", "ratio")
OPEN = (Standing.UNPROVEN, Standing.ESTIMATED, Standing.NOT_MEASURED)
SamplesLink = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberView:
    """A measurement that opens its origin."""

    id: str
    title: str
    definition: str
    measurement: Measurement | None
    baseline: Measurement | None = None
    exact: str = ""
    reason: str = ""
    samples_href: str = ""

    @property
    def has_origin(self) -> bool:
        return self.measurement is not None and self.measurement.value is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView(NumberView):
    """One row of the scorecard."""

    kpi: str
    target_words: str
    bullet: Bullet | None
    bullet_words: str
    change: Change | None
    standing: Standing
    note: str
    default_target: bool


def read_card(stored: StoredScorecard) -> Scorecard:
    """The engine's own value of a stored scorecard."""
    return from_jsonable(Scorecard, stored.body)


def measured(card: Scorecard, name: str) -> Measurement | None:
    """The judged trial's measurement of a KPI."""
    return next((row.measurement for row in card.rows if row.kpi == name), None)


def change_of(card: Scorecard, name: str) -> Change | None:
    """The change of a KPI against the baseline."""
    return next((row.change for row in card.rows if row.kpi == name), None)


def number_view(measurement: Measurement, *, place: str, samples: SamplesLink) -> NumberView:
    """A measurement outside the scorecard, with its origin; ``place`` makes its id unique on the page."""
    metric = kpi(measurement.kpi)
    return NumberView(
        id=element_id(place, measurement.kpi),
        title=metric.title,
        definition=metric.definition,
        measurement=measurement,
        exact=exact_words(measurement),
        samples_href=samples(measurement.samples_sha256) if measurement.samples_sha256 else "",
    )


def row_views(card: Scorecard, *, samples: SamplesLink) -> list[RowView]:
    """The rows of a scorecard in its order."""
    return [_row_view(row, number=number, samples=samples) for number, row in enumerate(card.rows)]


def headroom_rows(card: Scorecard) -> list[HeadroomRow]:
    """Room of every measured target, in percent of the target."""
    found = [_headroom_row(row) for row in card.rows if row.target is not None and row.headroom is not None]
    return [row for row in found if row is not None]


def target_words(target: KpiTarget | None) -> str:
    """``≤8 ms`` or nothing."""
    return format_target(target) if target else ""


def exact_words(measurement: Measurement) -> str:
    """The stored value and interval at full precision."""
    if measurement.value is None:
        return "not measured"
    low, high = (("open" if end is None else f"{end:.6g}") for end in (measurement.ci_low, measurement.ci_high))
    inside = "" if measurement.ci_low is None and measurement.ci_high is None else f" [{low}, {high}]"
    return f"{measurement.value:.6g}{inside} {measurement.unit}"


def element_id(*parts: object) -> str:
    """An id for the page."""
    return "n-" + re.sub(r"[^a-z0-9]+", "-", "-".join(str(part) for part in parts).lower()).strip("-")


def total_starts(rows: Sequence[RowView]) -> int:
    """Fresh process starts behind the judged trial's timings."""
    return max((row.measurement.starts for row in rows if row.measurement is not None), default=0)


def _row_view(row: ScoreRow, *, number: int, samples: SamplesLink) -> RowView:
    metric = kpi(row.kpi)
    one = row.measurement
    drawn = _bullet(row)
    return RowView(
        id=element_id("kpi", number),
        title=metric.title,
        definition=metric.definition,
        measurement=one,
        baseline=row.baseline,
        exact=exact_words(one) if one else "not measured",
        reason=row.reason,
        samples_href=samples(one.samples_sha256) if one and one.samples_sha256 else "",
        kpi=row.kpi,
        target_words=target_words(row.target),
        bullet=drawn,
        bullet_words=f"{format_measurement(one)}, target {target_words(row.target)}" if drawn else "",
        change=row.change,
        standing=row.standing,
        note=_note(row),
        default_target=row.default_target,
    )


def _note(row: ScoreRow) -> str:
    """What would decide an open verdict, else why it is open."""
    if row.target is None or row.standing not in OPEN:
        return ""
    return format_needed(row.needed, row.kpi) or row.reason


def _bullet(row: ScoreRow) -> Bullet | None:
    one, limit = row.measurement, _absolute_limit(row)
    if one is None or one.value is None or one.validity is Validity.INVALID or limit is None:
        return None
    return bullet(
        value=one.value,
        low=one.ci_low,
        high=one.ci_high,
        target=limit,
        from_zero=kpi(row.kpi).unit not in SHARES,
        proven=row.standing not in OPEN,
    )


def _absolute_limit(row: ScoreRow) -> float | None:
    """The target in the KPI's own unit; a relative one needs the baseline's value."""
    if row.target is None:
        return None
    if not row.target.relative:
        return row.target.value
    base = row.baseline
    return None if base is None or base.value is None else base.value * row.target.value


def _headroom_row(row: ScoreRow) -> HeadroomRow | None:
    target, one = row.target, row.measurement
    if target is not None and target.relative:
        target, one = ratio_target(target), row.change.ratio if row.change else None
    if target is None or one is None or row.headroom is None:
        return None
    ends = [room(target, end) for end in (one.ci_low, one.ci_high) if end is not None and math.isfinite(end)]
    value = row.headroom * 100
    return HeadroomRow(
        label=kpi(row.kpi).title,
        value=value,
        low=min([*ends, value]),
        high=max([*ends, value]),
        proven=row.standing not in OPEN,
    )


def room(target: KpiTarget, value: float) -> float:
    """Percent of the target that is left on the good side."""
    gap = (target.value - value) / abs(target.value) * 100
    return gap if target.op is Operator.AT_MOST else -gap


def value_words(name: str, value: float) -> str:
    """A bare value in its unit."""
    return format_value(name, value)
