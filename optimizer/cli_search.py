"""The ``search`` command: from a model file to a result folder and its scorecard."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from optimizer.cli_progress import Progress
from optimizer.cli_render import render_estimate, render_host
from optimizer.cli_workbench import Workbench
from optimizer.errors import InputError
from optimizer.result_folder import ResultFolder, save_result
from optimizer.sandbox import Level
from optimizer.score.catalog import price_for
from optimizer.score.scorecard import build_scorecard
from optimizer.search import planner
from optimizer.search.driver import run_search
from optimizer.search.problem import SearchProblem
from optimizer.specs import Decision, SearchSpec
from optimizer.traffic_table import resolved

EXIT_OF = {Decision.WINNER: 0, Decision.KEEP_ORIGINAL: 0, Decision.INCONCLUSIVE: 2}
WORK = ".work"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What the user typed, parsed."""

    model: Path
    spec: SearchSpec
    dataset: Path | None = None
    bindings: tuple[str, ...] = ()
    out: Path | None = None
    level: Level | None = None
    quiet: bool = False


def search(request: SearchRequest, console: Console) -> ResultFolder:
    """Run the search and leave a result folder. ``console`` gets the progress. Raises EngineError."""
    root = result_root(request.model, request.out)
    root.mkdir(parents=True, exist_ok=True)
    try:
        return _search(request, root=root, console=console)
    except BaseException:
        if not (root / "outcome.json").exists():
            shutil.rmtree(root, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(root / WORK, ignore_errors=True)


def _search(request: SearchRequest, *, root: Path, console: Console) -> ResultFolder:
    progress = Progress(console=console, quiet=request.quiet, budget_s=request.spec.budget.total_s)
    with Workbench(folder=root / WORK, level=request.level) as bench, progress:
        progress.phase("prepare", done=0, total=3, detail=f"check {request.model.name}")
        opened = bench.open_model(request.model, bindings=request.bindings)
        traffic = resolved(request.spec.traffic, opened.card.symbols)
        spec = replace(request.spec, bindings=dict(opened.card.bindings), traffic=traffic)
        hardware = bench.hardware()
        estimate = planner.estimate(opened.card, spec, hardware)
        planner.check_budget(estimate)
        if not request.quiet:
            render_host(hardware, console)
            render_estimate(estimate, console)
        progress.phase("prepare", done=1, total=3, detail="prepare inputs")
        inputs = bench.inputs(opened, spec, dataset=request.dataset)
        progress.say(f"Inputs: {inputs.n} {inputs.source.value}, {inputs.description}")
        problem = SearchProblem(
            model_dir=opened.folder,
            entry=opened.entry,
            card=opened.card,
            spec=spec,
            hardware=hardware,
            inputs=inputs,
            workspace=root / WORK,
        )
        outcome = run_search(problem, sandbox=bench.sandbox, observer=progress)
        scorecard = build_scorecard(reports=progress.reports, outcome=outcome, spec=spec, price=price_for(hardware))
        return save_result(
            root, problem=problem, outcome=outcome, scorecard=scorecard, reports=progress.reports, source=str(request.model.resolve())
        )


def result_root(model: Path, out: Path | None) -> Path:
    """The folder to write: the one asked for if it is free, else ``<model>.parka``, numbered where that exists.

    Raises InputError ``out.exists``.
    """
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError("out.exists", f"{str(out)!r} exists and is not empty; choose another folder.")
        return out
    number, stem = 1, model.resolve().stem
    while (root := Path(f"{stem}.parka" if number == 1 else f"{stem}.parka-{number}")).exists():
        number += 1
    return root
