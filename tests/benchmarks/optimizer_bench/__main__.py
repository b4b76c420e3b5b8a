"""Parka beside other tools.

    python -m tests.benchmarks.optimizer_bench [NAMES] [--cache .parka/bench] [--budget 300] [--threads N] [--peers a,b] [--again]

Per model: Parka searches with the given budget and no other setting, and once more with a quarter of it; each other tool makes what it makes by its defaults; the same
sealed examples judge every form (the default limits of the task); then those that reach the limits are held open in fresh processes and timed in
short rounds in random order. One ratio original / form per opening; Hodges-Lehmann's estimate with its 95 % signed-rank interval.
Results lie in <cache>/results, one file per model; a model that has one is not run again without --again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from optimizer.cli_workbench import Workbench
from optimizer.specs import Budget
from tests.benchmarks.optimizer_bench.arena import Arena
from tests.benchmarks.optimizer_bench.forms import PARKA, PARKA_QUARTER, Absent, Made
from tests.benchmarks.optimizer_bench.ours import arguments, parka_form
from tests.benchmarks.optimizer_bench.peers import PEERS
from tests.benchmarks.optimizer_bench.report import Result, line_of, print_result, print_summary, result_from
from tests.benchmarks.optimizer_zoo import NAMES, exhibit


def run_one(name: str, *, options: argparse.Namespace, console: Console) -> Result:
    one = exhibit(name, cache=options.cache)
    facts: dict[str, dict[str, object]] = {}
    mine: list[Made] = []
    with tempfile.TemporaryDirectory(prefix="parka-bench-") as folder:
        for maker, budget_s in ((PARKA, options.budget), (PARKA_QUARTER, options.budget / 4)):
            form, facts[maker] = parka_form(one, maker=maker, budget_s=budget_s, out=Path(folder, maker), options=options, console=console)
            mine.append(form)
        sealed = max(Budget().accuracy_examples, *(int(str(told.get("sealed_examples", 0))) for told in facts.values()))
        with Workbench(folder=Path(folder, "arena")) as bench:
            arena = Arena(one, bench=bench, budget=Budget(), threads=options.threads, sealed=sealed)
            threads = arena.original.recipe.settings.threads or 1
            made: list[Made] = [arena.original, *mine]
            for peer in options.peers:
                console.print(f"{name}: {peer}")
                made += PEERS[peer](arena, folder=Path(folder, "peers", peer), cache=options.cache, threads=threads)
            runnable = [form for form in made if not isinstance(form, Absent)]
            judged = {id(form): arena.judge(form) for form in runnable if form is not arena.original}
            forms = [form for form in runnable if form is arena.original or form in mine or judged[id(form)].by_value]
            timed = arena.time(forms, openings=options.openings, rounds=options.rounds, seconds=options.seconds)
            timings = {id(form): timing for form, timing in zip(forms, timed, strict=True)}
            lines = tuple(line_of(form, judged.get(id(form)), timings.get(id(form))) for form in made)
    return Result(model=name, threads=threads, lines=lines, facts=facts)


def main() -> int:
    parser = arguments(__doc__, names=NAMES)
    parser.add_argument("--openings", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--peers", type=lambda text: [one for one in text.split(",") if one], default=list(PEERS))
    options = parser.parse_args()
    console, results = Console(width=160), []
    kept = options.cache / "results"
    kept.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        file = kept / f"{name}.json"
        if options.again or not file.exists():
            draft = file.with_suffix(".draft")
            draft.write_text(json.dumps(run_one(name, options=options, console=console).as_json(), indent=1))
            shutil.move(draft, file)
        results.append(result_from(json.loads(file.read_text())))
        print_result(results[-1], console)
    print_summary(results, console)
    return 1 if any(not one.parka.holds for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
