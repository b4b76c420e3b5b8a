"""What an exhaustive sweep of Parka's own space needs, and how near Parka comes in a quarter of that time.

    python -m tests.benchmarks.optimizer_bench.sweep [NAMES] [--cache .parka/bench] [--threads N] [--again]

The sweep builds every recipe that the planner can think of, with every setting that it could tune, holds each to the sealed examples and
times each beside the original in a fresh process: no order, no elimination, no confirmation. Then Parka searches with a quarter of the
sweep's seconds as its budget (at most ``--budget``), and the best of both are timed side by side.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from optimizer.cli_workbench import Workbench
from optimizer.measure.compare import paired_effect
from optimizer.pipeline import BuildCache, StepFailed, materialise
from optimizer.search.candidates import installed_backends, plan
from optimizer.specs import Budget, Recipe
from tests.benchmarks.optimizer_bench.arena import Arena
from tests.benchmarks.optimizer_bench.forms import PARKA, Absent, Form
from tests.benchmarks.optimizer_bench.ours import arguments, parka_form
from tests.benchmarks.optimizer_bench.report import MARGIN, effect_text
from tests.benchmarks.optimizer_zoo import exhibit

MODELS = ("S2.cls", "digits-resnet", "S10.o")
EVERYTHING_S = 1e6
"""A budget that leaves no candidate out."""
SHARE = 0.25
OPENINGS, ROUNDS, ROUND_S = 1, 6, 0.2


def space(arena: Arena) -> list[Recipe]:
    """Every recipe of the plan, each with all settings that tuning may try; training apart, which has no end."""
    spec = replace(arena.spec, budget=replace(Budget(), preset="publish", total_s=EVERYTHING_S))
    planned = plan(arena.subject.card, spec, arena.hardware, installed_backends(arena.hardware))
    every = [one for candidate in planned.candidates for one in (candidate, *planned.tune(candidate))]
    return list({one.recipe.key: one.recipe for one in every}.values())


def swept(arena: Arena, recipes: list[Recipe], *, console: Console) -> Iterator[tuple[Form, float]]:
    """Forms that pass, with their log speed-up."""
    cache = BuildCache(arena.subject.workspace / "builds")
    for number, recipe in enumerate(recipes, start=1):
        try:
            build = materialise(recipe, subject=arena.subject, cache=cache, sandbox=arena.sandbox)
        except StepFailed as failed:
            console.print(f"{number}/{len(recipes)} {recipe.label}: {failed.failure.code}")
            continue
        form = Form(maker="sweep", label=recipe.label, build=build, recipe=recipe)
        if not arena.judge(form).holds:
            console.print(f"{number}/{len(recipes)} {recipe.label}: fails")
            continue
        timing = arena.time([arena.original, form], openings=OPENINGS, rounds=ROUNDS, seconds=ROUND_S)[1]
        if timing.log_ratios:
            console.print(f"{number}/{len(recipes)} {recipe.label}: {timing.log_ratios[0]:+.3f} log")
            yield form, timing.log_ratios[0]


def compared(name: str, *, options: argparse.Namespace, console: Console) -> dict[str, object]:
    one = exhibit(name, cache=options.cache)
    with tempfile.TemporaryDirectory(prefix="parka-sweep-") as folder, Workbench(folder=Path(folder, "arena")) as bench:
        begin = time.monotonic()
        arena = Arena(one, bench=bench, budget=Budget(), threads=options.threads, sealed=Budget().accuracy_examples)
        recipes = space(arena)
        forms = [*swept(arena, recipes, console=console), (arena.original, 0.0)]
        sweep_s = time.monotonic() - begin
        best = max(forms, key=lambda pair: pair[1])[0]
        budget_s = min(options.budget, SHARE * sweep_s)
        mine, facts = parka_form(one, maker=PARKA, budget_s=budget_s, out=Path(folder, "parka"), options=options, console=console)
        assert not isinstance(mine, Absent), mine.reason
        _, theirs, ours = arena.time([arena.original, best, mine], openings=6, rounds=8, seconds=ROUND_S)
        pairs = zip(ours.log_ratios, theirs.log_ratios, strict=True)
        return {
            "model": name,
            "recipes": len(recipes),
            "sweep_s": sweep_s,
            "best": best.label,
            "parka_s": mine.seconds,
            "parka": facts["recipe"],
            "trials": len({str(told).split(" ", maxsplit=1)[0] for told in facts["trials"]}) - 1,  # type: ignore[attr-defined]
            "sweep_log_ratios": theirs.log_ratios,
            "parka_log_ratios": ours.log_ratios,
            "lead": effect_text(paired_effect([mine - other for mine, other in pairs], margin=MARGIN)),
        }


def main() -> int:
    options = arguments(__doc__, names=MODELS).parse_args()
    console = Console(width=160)
    table = Table("model", "recipes", "sweep s", "its best", "Parka s", "forms", "its form", "Parka / sweep's best")
    kept = options.cache / "sweeps"
    kept.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        file = kept / f"{name}.json"
        if options.again or not file.exists():
            file.write_text(json.dumps(compared(name, options=options, console=console), indent=1))
        told = json.loads(file.read_text())
        names = ("model", "recipes", "sweep_s", "best", "parka_s", "trials", "parka", "lead")
        table.add_row(*(f"{told[key]:.0f}" if isinstance(told[key], float) else str(told[key]) for key in names))
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
