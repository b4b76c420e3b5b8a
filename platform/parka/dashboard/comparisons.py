"""Runs, trials and agents as entries of the engine's comparison, and its table as cells to print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimizer.codec import from_jsonable
from optimizer.kpis import kpi
from optimizer.score.change import Change
from optimizer.score.comparison import ComparisonRow, ComparisonTable, Entry
from optimizer.score.evidence import gather
from optimizer.score.wording import format_change, latency_unit, title_of
from optimizer.specs import HardwareProfile, Measurement, Recipe, Stage, StageReport
from parka.accounts.access import Access
from parka.core.text import clean_line
from parka.dashboard.facts import idle_words, shape_words, start_words, step_words
from parka.dashboard.scores import read_card
from parka.experiments.models import Run
from parka.experiments.selectors import outcome, reports, spec
from parka.scorecards.models import Scorecard
from parka.scorecards.selectors import current_book, price_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CellView:
    """A cell: a measurement with its change, or a text that may differ from the baseline's."""

    measurement: Measurement | None = None
    change: Change | None = None
    margin: float = 0.03
    text: str = ""
    differs: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineView:
    """A row; ``unit`` is common to all its cells."""

    title: str
    cells: tuple[CellView, ...]
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """Rows under one heading."""

    title: str
    rows: tuple[LineView, ...]


def entry_of(access: Access, run: Run, trial: int | None = None, *, card: Scorecard | None = None) -> Entry | None:
    """A trial of a run as an entry; without a number the one its scorecard judges. None when it has no evidence."""
    found = reports(run)
    judged = trial if trial is not None else _judged(run, card)
    evidence = gather(found, price=price_of(run.agent, current_book(access.team))).get(judged)
    own = [report for report in found if report.trial == judged]
    if evidence is None or not own:
        return None
    answer = outcome(run)
    return Entry(
        key=run.label if trial is None else f"{run.label}/{trial}",
        run=run.label,
        trial=judged,
        label=evidence.label,
        measurements=tuple(evidence.measurements.values()),
        duels=answer.duels if answer else (),
        environment=_environment(own),
        conditions=_conditions(run),
    )


def recipe_rows(access: Access, chosen: Sequence[tuple[Run, Entry]]) -> list[tuple[str, list[str]]]:
    """What each entry runs: label and one text per entry."""
    recipes = [recipe_of(run, entry.trial) for run, entry in chosen]
    return [
        ("Model", [str(run.experiment.version) for run, _ in chosen]),
        ("Agent", [run.agent.name for run, _ in chosen]),
        ("Machine", [_machine(run) for run, _ in chosen]),
        ("Passes", [", ".join(step_words(step) for step in one.passes) or "as uploaded" if one else "" for one in recipes]),
        ("Backend", [one.backend if one else "" for one in recipes]),
        ("Precision", [str(one.settings.precision) if one else "" for one in recipes]),
        ("Threads", [("default" if one.settings.threads is None else str(one.settings.threads)) if one else "" for one in recipes]),
        ("Streams", [str(one.settings.streams) if one else "" for one in recipes]),
        ("Batch", [str(one.settings.batch) if one else "" for one in recipes]),
        ("Start", [start_words(one.settings) if one else "" for one in recipes]),
        ("Shapes", [shape_words(one.settings) if one else "" for one in recipes]),
        ("Idle threads", [idle_words(one.settings) if one else "" for one in recipes]),
    ]


def recipe_of(run: Run, trial: int) -> Recipe | None:
    """The recipe of a trial."""
    row = run.trials.filter(index=trial).first()
    return from_jsonable(Recipe, row.recipe) if row else None


def text_group(title: str, rows: Sequence[tuple[str, Sequence[str]]], *, base: int, only_differences: bool) -> GroupView:
    """Rows of texts; equal ones are left out when only differences are wanted."""
    lines = [_text_line(name, values, base=base) for name, values in rows if not only_differences or len(set(values)) > 1]
    return GroupView(title=title, rows=tuple(lines))


def number_group(table: ComparisonTable, *, originals: Sequence[bool], only_differences: bool) -> GroupView:
    """KPIs; ``originals`` says which columns are an untouched Trial 0. A row whose changes are all exactly none is left out when only differences are wanted."""
    rows = [row for row in table.rows if not only_differences or _differs(row)]
    return GroupView(title="Measured", rows=tuple(_number_line(row, originals=originals, margin=table.margin) for row in rows))


def csv_rows(table: ComparisonTable, groups: Sequence[GroupView], titles: Sequence[str]) -> list[list[object]]:
    """The visible table; a measured column becomes value, ends of the interval, samples and the change."""
    heads: list[object] = ["row", "unit"]
    for title in titles:
        heads += [title, f"{title} ci_low", f"{title} ci_high", f"{title} n", f"{title} change"]
    return [heads, *(_csv_row(line, margin=table.margin) for group in groups for line in group.rows)]


def _csv_row(line: LineView, *, margin: float) -> list[object]:
    unit = next((cell.measurement.unit for cell in line.cells if cell.measurement), "")
    row: list[object] = [line.title, unit]
    for cell in line.cells:
        one = cell.measurement
        if one is None:
            row += [cell.text, None, None, None, None]
        else:
            row += [one.value, one.ci_low, one.ci_high, one.n, format_change(cell.change, margin) if cell.change else None]
    return row


def _number_line(row: ComparisonRow, *, originals: Sequence[bool], margin: float) -> LineView:
    values = [cell.measurement.value for cell in row.cells if cell.measurement]
    against = row.kpi.startswith("fidelity_")
    cells = tuple(
        CellView(
            measurement=cell.measurement,
            change=cell.change,
            margin=margin,
            why="the reference itself" if against and original else "not measured",
        )
        for cell, original in zip(row.cells, originals, strict=True)
    )
    return LineView(title=title_of(row.kpi), cells=cells, unit=latency_unit(values) if kpi(row.kpi).unit == "ms" else None)


def _text_line(name: str, values: Sequence[str], *, base: int) -> LineView:
    plain = [clean_line(value, limit=200) for value in values]
    return LineView(title=name, cells=tuple(CellView(text=value, differs=value != plain[base]) for value in plain))


def _differs(row: ComparisonRow) -> bool:
    values = {cell.measurement.value if cell.measurement else None for cell in row.cells}
    return len(values) > 1


def _judged(run: Run, card: Scorecard | None) -> int:
    if card is not None:
        return read_card(card).trial
    answer = outcome(run)
    return answer.winner or 0 if answer else 0


def _environment(own: Sequence[StageReport]) -> dict[str, object]:
    recorded = [report for report in own if report.environment]
    raced = next((report for report in recorded if report.stage is Stage.RACE), recorded[-1] if recorded else None)
    return dict(raced.environment) if raced else {}


def _conditions(run: Run) -> dict[str, object]:
    """What was asked: facts that decide whether two numbers answer the same question."""
    asked = spec(run.experiment)
    dataset = run.experiment.dataset
    return {
        "inputs": dataset.slug if dataset else "shipped or synthetic",
        "bindings": dict(asked.bindings),
        "scenario": str(asked.scenario),
        "budget": asked.budget.preset,
    }


def _machine(run: Run) -> str:
    profile = run.agent.profile
    return from_jsonable(HardwareProfile, profile.profile).cpu_model if profile else ""
