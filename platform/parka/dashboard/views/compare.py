"""Comparison of runs and trials, and of agents, against a pinned baseline; the address is the view."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET

from optimizer.score.comparison import ComparisonTable, Entry, compare_entries
from parka.accounts.access import Access
from parka.core.errors import NotFound, Refused
from parka.dashboard.cells import safe_cell
from parka.dashboard.comparisons import GroupView, csv_rows, entry_of, number_group, recipe_rows, text_group
from parka.dashboard.pages import show, team_view
from parka.experiments import selectors
from parka.experiments.models import Run, RunState
from parka.registry.models import Intake, ModelVersion
from parka.registry.selectors import all_versions, version_by_id
from parka.scorecards.selectors import scorecards

MOST = 200
MOST_COLUMNS = 8
OFFERED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """An entry as a column."""

    key: str
    title: str
    subtitle: str
    href: str
    is_base: bool
    pin_href: str = ""
    drop_href: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A finished comparison. ``hidden`` counts rows left out because they are equal."""

    columns: tuple[Column, ...]
    groups: tuple[GroupView, ...]
    table: ComparisonTable
    notes: tuple[str, ...]
    hidden: int

    @property
    def base(self) -> Column:
        return next(column for column in self.columns if column.is_base)


@require_GET
@team_view
def compare(request: HttpRequest, access: Access) -> HttpResponse:
    """Chosen runs and trials side by side."""
    keys = chosen_keys(request)
    only = request.GET.getlist("diff")[-1:] != ["0"]
    found, missing = _entries(access, keys)
    finished = selectors.runs(access).filter(state=RunState.FINISHED)
    context: dict[str, Any] = {
        **_frame("runs", only),
        "addable": [run for run in finished[:OFFERED] if run.label not in keys],
        "empty_title": "Choose what to compare",
        "empty_words": "Two or more runs, or trials of a run. The first is the baseline until you pin another.",
        "suggestions": _suggestions(access, list(finished[:2])),
    }
    if not found:
        return show(request, access, "compare/page.html", {**context, "notes": missing}, fragment="compare/_table.html")
    view = _view(access, found, base=request.GET.get("base", ""), only=only, notes=missing, pinnable=True)
    return _answer(request, access, view, context)


@require_GET
@team_view
def compare_agents(request: HttpRequest, access: Access) -> HttpResponse:
    """The newest finished run of one model version on every agent that has one."""
    versions = list(all_versions(access).filter(state=Intake.READY)[:OFFERED])
    version = _version(access, request.GET.get("model", ""), versions)
    only = request.GET.getlist("diff")[-1:] == ["1"]
    context = {
        **_frame("agents", only),
        "versions": versions,
        "version": version,
        "empty_title": "No agent has finished a run of this version",
        "empty_words": "Start an experiment on two or more agents; each becomes a column here.",
        "suggestions": [{"href": reverse("experiments", args=[access.team.slug]), "label": "Experiments"}],
    }
    found = _newest_per_agent(access, version) if version else []
    if not found:
        return show(request, access, "compare/page.html", context, fragment="compare/_table.html")
    view = _view(access, found, base=request.GET.get("base", ""), only=only, notes=(), pinnable=False)
    return _answer(request, access, view, context)


def chosen_keys(request: HttpRequest) -> list[str]:
    """``R-112`` and ``R-118/19`` from repeated or comma-separated ``runs``, each once. Raises Refused ``compare.too_many``."""
    words = [word.strip() for value in request.GET.getlist("runs") for word in value.split(",")]
    keys = list(dict.fromkeys(word for word in words if word))
    if len(keys) > MOST:
        raise Refused("compare.too_many")
    return keys


def _entries(access: Access, keys: Sequence[str]) -> tuple[list[tuple[Run, Entry]], tuple[str, ...]]:
    """The entries that exist, and a note for every one that does not."""
    wanted = {key: _parsed(key) for key in keys}
    numbers = [parsed[0] for parsed in wanted.values() if parsed]
    runs = {run.number: run for run in selectors.runs(access).filter(number__in=numbers)}
    cards = {card.run_id: card for card in scorecards(access).filter(run__in=runs.values()).order_by("book__version")}
    found: list[tuple[Run, Entry]] = []
    missing: list[str] = []
    for key, parsed in wanted.items():
        run = runs.get(parsed[0]) if parsed else None
        entry = entry_of(access, run, parsed[1], card=cards.get(run.pk)) if run and parsed else None
        if run is None or entry is None:
            missing.append(f"{key[:40]} is left out: " + ("nothing of it was raced." if run else "there is no such run."))
        else:
            found.append((run, entry))
    return found, tuple(missing)


def _parsed(key: str) -> tuple[int, int | None] | None:
    run, _, trial = key.removeprefix("R-").partition("/")
    if not run.isdecimal() or len(run) > 8 or (trial and (not trial.isdecimal() or len(trial) > 6)):
        return None
    return int(run), int(trial) if trial else None


def _view(access: Access, found: Sequence[tuple[Run, Entry]], *, base: str, only: bool, notes: tuple[str, ...], pinnable: bool) -> View:
    entries = [entry for _, entry in found]
    keys = [entry.key for entry in entries]
    pinned = base if base in keys else keys[0]
    place = keys.index(pinned)
    table = compare_entries(entries, base=pinned, margin=access.team.margin)
    shown = _groups(access, found, table, base=place, only=only)
    everything = _groups(access, found, table, base=place, only=False)
    return View(
        columns=tuple(_column(access, run, entry, keys=keys, base=pinned, pinnable=pinnable) for run, entry in found),
        groups=shown,
        table=table,
        notes=(*notes, *_environment_notes(table)),
        hidden=sum(len(group.rows) for group in everything) - sum(len(group.rows) for group in shown),
    )


def _groups(access: Access, found: Sequence[tuple[Run, Entry]], table: ComparisonTable, *, base: int, only: bool) -> tuple[GroupView, ...]:
    """Environment differences first, then numbers, then what runs."""
    differing = [(one.name.replace("_", " "), one.values) for one in table.differences]
    groups = (
        text_group("Environment and conditions that differ", differing, base=base, only_differences=True),
        number_group(table, originals=[entry.trial == 0 for _, entry in found], only_differences=only),
        text_group("Recipe", recipe_rows(access, found), base=base, only_differences=only),
    )
    return tuple(group for group in groups if group.rows)


def _environment_notes(table: ComparisonTable) -> tuple[str, ...]:
    if table.comparable:
        return ()
    named = ", ".join(one.name.replace("_", " ") for one in table.differences[:4])
    more = f" and {len(table.differences) - 4} more" if len(table.differences) > 4 else ""
    return (f"Environment or conditions differ in {named}{more}: the numbers may not answer the same question.",)


def _column(access: Access, run: Run, entry: Entry, *, keys: Sequence[str], base: str, pinnable: bool) -> Column:
    slug = access.team.slug
    is_trial = "/" in entry.key
    others = [key for key in keys if key != entry.key]
    return Column(
        key=entry.key,
        title=entry.key if pinnable else run.agent.name,
        subtitle=f"{run.experiment.version}, trial {entry.trial}: {entry.label}" if pinnable else f"{run.label}, trial {entry.trial}",
        href=reverse("trial", args=[slug, run.label, entry.trial]) if is_trial else reverse("run", args=[slug, run.label]),
        is_base=entry.key == base,
        pin_href=_href(access, keys, base=entry.key) if pinnable else "",
        drop_href=_href(access, others, base=base if base in others else "") if pinnable and others else "",
    )


def _href(access: Access, keys: Sequence[str], *, base: str) -> str:
    query = {"runs": ",".join(keys), **({"base": base} if base else {})}
    return f"{reverse('compare', args=[access.team.slug])}?{urlencode(query, safe='/,')}"


def _answer(request: HttpRequest, access: Access, view: View, context: dict[str, Any]) -> HttpResponse:
    if request.GET.get("format") == "csv":
        return _csv(view)
    query = request.GET.copy()
    query["format"] = "csv"
    shown = {
        **context,
        "columns": view.columns,
        "groups": view.groups,
        "base": view.base,
        "span": len(view.columns) + 1,
        "notes": view.notes,
        "hidden": view.hidden,
        "unpaired": len({entry.key.partition("/")[0] for entry in view.columns}) > 1,
        "csv_href": f"{request.path}?{query.urlencode(safe='/,')}",
    }
    return show(request, access, "compare/page.html", shown, fragment="compare/_table.html")


def _csv(view: View) -> HttpResponse:
    text = io.StringIO()
    writer = csv.writer(text)
    for row in csv_rows(view.table, view.groups, [column.title for column in view.columns]):
        writer.writerow([safe_cell(cell) for cell in row])
    headers = {"Content-Disposition": 'attachment; filename="comparison.csv"', "X-Content-Type-Options": "nosniff"}
    return HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def _frame(mode: str, only: bool) -> dict[str, Any]:
    return {
        "title": "Compare",
        "section": "compare",
        "subtitle": "Side by side against one pinned baseline",
        "mode": mode,
        "only_differences": only,
    }


def _suggestions(access: Access, newest: list[Run]) -> list[dict[str, str]]:
    if len(newest) < 2:
        return [{"href": reverse("runs", args=[access.team.slug]), "label": "Go to Runs"}]
    labels = [run.label for run in newest]
    return [{"href": _href(access, labels, base=""), "label": f"Compare {' and '.join(labels)}"}]


def _version(access: Access, name: str, versions: Sequence[ModelVersion]) -> ModelVersion | None:
    if name:
        try:
            return version_by_id(access, name)
        except NotFound:
            return None
    measured = selectors.runs(access).filter(state=RunState.FINISHED).first()
    return measured.experiment.version if measured else next(iter(versions), None)


def _newest_per_agent(access: Access, version: ModelVersion) -> list[tuple[Run, Entry]]:
    newest: dict[int, Run] = {}
    for run in selectors.runs(access).filter(state=RunState.FINISHED, experiment__version=version):
        newest.setdefault(run.agent_id, run)
    chosen = list(newest.values())[:MOST_COLUMNS]
    cards = {card.run_id: card for card in scorecards(access).filter(run__in=chosen).order_by("book__version")}
    entries = [(run, entry_of(access, run, card=cards.get(run.pk))) for run in chosen]
    return [(run, entry) for run, entry in entries if entry is not None]
