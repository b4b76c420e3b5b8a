"""Runs, trials and agents side by side against a pinned baseline, from stored reports."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from optimizer.codec import from_jsonable
from optimizer.score.comparison import ComparisonTable, Entry, compare_entries
from optimizer.score.evidence import gather
from optimizer.specs import Stage, StageReport
from parka.accounts.access import Access
from parka.core.errors import Refused
from parka.experiments import selectors as experiments
from parka.experiments.models import Run, TrialStage
from parka.scorecards.models import PriceBook
from parka.scorecards.selectors import current_book, price_of

MOST = 200
PICK = re.compile(r"(?P<run>R-\d{1,9}|run_[0-9a-z]{20})(/(?P<trial>\d{1,6}))?", re.IGNORECASE)
EXPERIMENT = re.compile(r"E-(?P<number>\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One column of a comparison. ``trial`` is the run's answer unless one was picked."""

    key: str
    run: Run
    trial: int
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The table, its columns in the asked order, and the picks that led nowhere."""

    table: ComparisonTable
    chosen: tuple[Chosen, ...]
    unknown: tuple[str, ...]


def compare(access: Access, *, picks: Sequence[str], base: str = "") -> Compared:
    """Compare what the picks name: ``R-118`` or ``run_…`` (the run's answer), ``R-118/19`` (a trial), ``E-45`` (every agent of it).

    The baseline is the first pick unless ``base`` names another. A pick that cannot be found or measured nothing is listed
    in ``unknown``; the others load. Raises Refused ``compare.too_few`` ``compare.too_many`` ``compare.base``.
    """
    wanted = list(dict.fromkeys(pick.strip() for pick in picks if pick.strip()))
    if len(wanted) > MOST:
        raise Refused("compare.too_many")
    located = {pick: _located(access, pick) for pick in wanted}
    targets = list(dict.fromkeys(place for places in located.values() for place in places))
    if len(targets) > MOST:
        raise Refused("compare.too_many")
    columns = _columns(access, targets)
    unknown = tuple(pick for pick, places in located.items() if not any(place in columns for place in places))
    chosen = tuple(columns[place] for place in targets if place in columns)
    if not chosen:
        raise Refused("compare.too_few")
    table = compare_entries([one.entry for one in chosen], base=_base(access, base, chosen), margin=access.team.margin)
    return Compared(table=table, chosen=chosen, unknown=unknown)


Place = tuple[int, int | None]


def _located(access: Access, pick: str) -> list[Place]:
    """(run number, trial or None) of a pick; nothing for one that is malformed or not the team's."""
    experiment, run = EXPERIMENT.fullmatch(pick), PICK.fullmatch(pick)
    rows = experiments.runs(access)
    if experiment:
        mine = rows.filter(experiment__number=int(experiment["number"])).order_by("number")
        return [(number, None) for number in mine.values_list("number", flat=True)]
    if run is None:
        return []
    name, trial = run["run"], None if run["trial"] is None else int(run["trial"])
    if name.upper().startswith("R-"):
        return [(int(name[2:]), trial)]
    return [(number, trial) for number in rows.filter(public_id=name.lower()).values_list("number", flat=True)]


def _columns(access: Access, targets: Iterable[Place]) -> dict[Place, Chosen]:
    """A column per place whose trial was raced, with two queries for all runs."""
    places = list(targets)
    runs = {run.number: run for run in experiments.runs(access).filter(number__in={number for number, _ in places})}
    reports, book = _reports(runs.values()), current_book(access.team)
    columns: dict[Place, Chosen] = {}
    for number, picked in places:
        run = runs.get(number)
        column = run and _column(run, picked, reports=reports[run.pk], book=book)
        if column:
            columns[number, picked] = column
    return columns


def _reports(runs: Iterable[Run]) -> dict[int, list[StageReport]]:
    """Stage reports of all runs, by the run's key, in the order of trial and stage."""
    found: dict[int, list[StageReport]] = defaultdict(list)
    rows = TrialStage.objects.filter(trial__run__in=list(runs)).values_list("trial__run_id", "report")
    for run_id, report in rows:
        found[run_id].append(from_jsonable(StageReport, report))
    order = {stage: place for place, stage in enumerate(Stage)}
    for reports in found.values():
        reports.sort(key=lambda report: (report.trial, order[report.stage]))
    return found


def _column(run: Run, picked: int | None, *, reports: list[StageReport], book: PriceBook) -> Chosen | None:
    """None when that trial was never raced nor confirmed."""
    outcome = experiments.outcome(run)
    trial = picked if picked is not None else (outcome.winner or 0 if outcome else 0)
    evidence = gather(reports, price=price_of(run.agent, book)).get(trial)
    if evidence is None:
        return None
    key = run.label if picked is None else f"{run.label}/{picked}"
    entry = Entry(
        key=key,
        run=run.label,
        trial=trial,
        label=evidence.label,
        measurements=tuple(evidence.measurements.values()),
        duels=outcome.duels if outcome else (),
        environment=_environment(reports, trial),
        conditions=_conditions(run),
    )
    return Chosen(key=key, run=run, trial=trial, entry=entry)


def _environment(reports: list[StageReport], trial: int) -> dict[str, Any]:
    """The fingerprint that the trial's race (else its confirmation) recorded."""
    recorded = [report.environment for report in reports if report.trial == trial and report.stage in (Stage.RACE, Stage.CONFIRM)]
    return next((environment for environment in recorded if environment), {})


def _conditions(run: Run) -> dict[str, Any]:
    """What was asked of the run, as far as it changes numbers."""
    spec = run.experiment.spec
    names = ("scenario", "bindings")
    budget = spec.get("budget", {})
    asked = {name: spec[name] for name in names if name in spec}
    return {**asked, "preset": budget.get("preset", ""), "dataset": run.experiment.dataset.slug if run.experiment.dataset else ""}


def _base(access: Access, base: str, chosen: Sequence[Chosen]) -> str:
    if not base:
        return chosen[0].key
    wanted = _located(access, base.strip())
    for one in chosen:
        if one.key.lower() == base.strip().lower() or (one.run.number, None) in wanted:
            return one.key
    raise Refused("compare.base")
