"""Parka's own part in both benchmarks: what it returns for an exhibit, and the options that both take."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from optimizer.cli_search import SearchRequest, search
from optimizer.codec import to_jsonable
from optimizer.errors import EngineError
from optimizer.result_folder import ResultFolder
from optimizer.specs import Budget, SearchSpec
from tests.benchmarks.optimizer_bench.forms import PARKA, Absent, Made, form_of
from tests.benchmarks.optimizer_zoo import Exhibit


def arguments(description: str | None, *, names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(names))
    parser.add_argument("--cache", type=lambda text: Path(text).resolve(), default=Path(".parka/bench").resolve())
    parser.add_argument("--budget", type=float, default=300.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    return parser


def parka_form(
    one: Exhibit, *, maker: str, budget_s: float, out: Path, options: argparse.Namespace, console: Console
) -> tuple[Made, dict[str, object]]:
    """What Parka returns within the budget."""
    label = "Parka" if maker == PARKA else f"Parka in {budget_s:.0f} s"
    spec = SearchSpec(budget=replace(Budget(), total_s=budget_s), task=one.task, max_threads=options.threads)
    request = SearchRequest(model=one.model, spec=spec, dataset=one.inputs, bindings=one.bindings, out=out, quiet=not options.verbose)
    begin = time.monotonic()
    try:
        found = search(request, console)
    except EngineError as error:
        return Absent(maker=maker, label=label, reason=f"{error.code}: {error.message}", seconds=time.monotonic() - begin), {}
    chosen, outcome = found.chosen, found.outcome
    form = form_of(
        maker, label, folder=chosen.folder, entry=chosen.entry, backend=chosen.recipe.backend, settings=chosen.recipe.settings,
        seconds=time.monotonic() - begin,
    )  # fmt: skip
    first = outcome.first_proven
    return form, {
        "decision": outcome.decision,
        "reason": outcome.reason,
        "recipe": chosen.recipe.label,
        "trials": trials(found),
        "sealed_examples": outcome.sealed_examples,
        "elapsed_s": outcome.elapsed_s,
        "first_proven": None if first is None else to_jsonable(first),
    }


def trials(found: ResultFolder) -> list[str]:
    return [f"{one.trial} {one.recipe.label}: {one.stage} {one.status}" for one in found.reports()]
