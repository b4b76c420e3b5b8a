"""Trials and runs side by side against a pinned baseline, with what differs between them (ux.md 8.12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optimizer.codec import digest
from optimizer.errors import InputError
from optimizer.kpis import KPIS, Direction, kpi
from optimizer.measure.compare import PairedEffect, welch_effect
from optimizer.score.change import Change, change_of, unpaired_ratio
from optimizer.score.cost import COST
from optimizer.score.evidence import THROUGHPUT
from optimizer.specs import Duel, Effect, Measurement, Validity

IGNORED = frozenset({"sandbox_checks", "started_at", "finished_at", "byte_order"})
"""Facts of a fingerprint that name an occasion, not a condition."""

MISSING = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One trial in a comparison. ``run`` names the run it belongs to; ``starts`` holds each fresh start's value per KPI, where known.

    ``duels`` are the ones of its run; they pair finalists with that run's Trial 0.
    """

    key: str
    run: str
    trial: int
    label: str = ""
    measurements: tuple[Measurement, ...] = ()
    duels: tuple[Duel, ...] = ()
    starts: dict[str, tuple[float, ...]] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Measurement | None:
        return next((one for one in self.measurements if one.kpi == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A fact in which the entries differ: its name and each entry's value, in the entries' order."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One entry's value of a KPI and its change against the base; ``leads``: best, or not told apart from the best."""

    measurement: Measurement | None
    change: Change | None = None
    leads: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """A KPI across all entries. ``tied``: more than one leads."""

    kpi: str
    cells: tuple[Cell, ...]
    tied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonTable:
    """Rows per KPI; ``differences`` lists environment and conditions that differ, so that unlike numbers are not ranked silently."""

    base: str
    keys: tuple[str, ...]
    rows: tuple[ComparisonRow, ...]
    differences: tuple[Difference, ...]
    margin: float

    @property
    def comparable(self) -> bool:
        """Whether the entries differ in nothing but what they are."""
        return not self.differences


def comparability_key(environment: Mapping[str, Any], conditions: Mapping[str, Any]) -> str:
    """Digest of everything that can change speed; equal keys may be ranked together."""
    return digest([_flat(environment), _flat(conditions)])


def compare_entries(entries: Sequence[Entry], *, base: str, margin: float = 0.03, error: float = 0.05) -> ComparisonTable:
    """Every KPI that any entry measured, against entry ``base``.

    A change is the paired duel where the two met in one race, else Welch's interval on the logs of start values, else the
    two intervals combined. Raises InputError ``comparison.base`` when ``base`` is not among the entries.
    """
    pinned = next((entry for entry in entries if entry.key == base), None)
    if pinned is None:
        raise InputError("comparison.base", f"{base} is not part of the comparison; pick one of {', '.join(one.key for one in entries)}.")
    names = [name for name in KPIS if any(entry.get(name) is not None for entry in entries)]
    return ComparisonTable(
        base=base,
        keys=tuple(entry.key for entry in entries),
        rows=tuple(_row(name, entries, pinned, margin=margin, error=error) for name in names),
        differences=list_differences(entries),
        margin=margin,
    )


def list_differences(entries: Sequence[Entry]) -> tuple[Difference, ...]:
    """Facts of environment, then of conditions, in which the entries differ; unknown facts read "—"."""
    found: list[Difference] = []
    for facts in ([_flat(one.environment) for one in entries], [_flat(one.conditions) for one in entries]):
        for name in sorted(set().union(*facts)):
            values = tuple(one.get(name, MISSING) for one in facts)
            if len(set(values)) > 1:
                found.append(Difference(name=name, values=values))
    return tuple(found)


def change_between(base: Entry, entry: Entry, name: str, *, margin: float = 0.03, error: float = 0.05) -> Change | None:
    """Change of ``entry`` against ``base`` on one KPI; None for the base itself and where a value is missing."""
    if entry.key == base.key:
        return None
    paired = _paired(base, entry, name)
    if paired is not None:
        return paired
    source = THROUGHPUT if name == COST and base.run == entry.run else name
    before, after = base.starts.get(source, ()), entry.starts.get(source, ())
    if len(before) >= 2 and len(after) >= 2:
        effect = _welch(source, before, after, margin=margin, error=error)
        return Change(kpi=name, ratio=effect.measurement(confidence=1 - error), effect=effect.effect)
    ratio = unpaired_ratio(base.get(source), entry.get(source))
    return None if ratio is None else change_of(name, ratio, margin=margin)


def _row(name: str, entries: Sequence[Entry], base: Entry, *, margin: float, error: float) -> ComparisonRow:
    leaders = _leaders([entry.get(name) for entry in entries], higher=kpi(name).direction is Direction.HIGHER)
    cells = tuple(
        Cell(
            measurement=entry.get(name),
            change=change_between(base, entry, name, margin=margin, error=error),
            leads=leads,
        )
        for entry, leads in zip(entries, leaders, strict=True)
    )
    return ComparisonRow(kpi=name, cells=cells, tied=sum(leaders) > 1)


def _paired(base: Entry, entry: Entry, name: str) -> Change | None:
    """The duel of the run both belong to, turned over when the base is the finalist."""
    if base.run != entry.run or 0 not in (base.trial, entry.trial):
        return None
    wanted = (name, THROUGHPUT) if name == COST else (name,)
    finalist = entry.trial or base.trial
    duel = next((one for one in entry.duels or base.duels if one.trial == finalist and one.kpi in wanted), None)
    if duel is None:
        return None
    if base.trial == 0:
        return Change(kpi=name, ratio=duel.speedup, effect=duel.effect)
    return Change(kpi=name, ratio=_turned(duel.speedup), effect=_TURNED[duel.effect])


_TURNED = {
    Effect.FASTER: Effect.SLOWER,
    Effect.SLOWER: Effect.FASTER,
    Effect.EQUIVALENT: Effect.EQUIVALENT,
    Effect.INCONCLUSIVE: Effect.INCONCLUSIVE,
}


def _turned(ratio: Measurement) -> Measurement:
    return replace(ratio, value=_inverse(ratio.value), ci_low=_inverse(ratio.ci_high), ci_high=_inverse(ratio.ci_low))


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None


def _welch(name: str, before: Sequence[float], after: Sequence[float], *, margin: float, error: float) -> PairedEffect:
    if kpi(name).direction is Direction.HIGHER:
        before, after = after, before
    return welch_effect(before, after, error=error, margin=margin)


def _leaders(measured: Sequence[Measurement | None], *, higher: bool) -> list[bool]:
    """Best by value and everyone whose interval reaches the best's; an entry without an interval leads only alone."""
    known = [one for one in measured if one is not None and one.value is not None and one.validity is not Validity.INVALID]
    if len(known) < 2:
        return [False] * len(measured)
    best = max(known, key=lambda one: (one.value or 0.0) if higher else -(one.value or 0.0))
    return [one is best or (one in known and one is not None and _overlap(one, best)) for one in measured]


def _overlap(one: Measurement, best: Measurement) -> bool:
    if one.ci_low is None and one.ci_high is None:
        return one.value == best.value
    low, high = _ends(one)
    best_low, best_high = _ends(best)
    return low <= best_high and best_low <= high


def _ends(one: Measurement) -> tuple[float, float]:
    value = one.value or 0.0
    if one.ci_low is None and one.ci_high is None:
        return value, value
    return (float("-inf") if one.ci_low is None else one.ci_low), (float("inf") if one.ci_high is None else one.ci_high)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested facts as dotted names and printable values."""
    flat: dict[str, str] = {}
    for name, value in facts.items():
        if name in IGNORED:
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = ", ".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)
    return flat
