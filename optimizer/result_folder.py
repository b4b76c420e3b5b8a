"""The folder a search leaves behind: everything needed to read, compare and export its answer later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import InputError
from optimizer.measure.inputs import InputSet, load_inputs
from optimizer.pipeline import BuildCache, portion
from optimizer.score.scorecard import Scorecard
from optimizer.search.problem import SearchProblem
from optimizer.specs import ModelCard, Recipe, SearchOutcome, SearchSpec, Stage, StageReport, StageStatus

T = TypeVar("T")
OUTCOME, SCORECARD, PROBLEM, RECIPE = "outcome.json", "scorecard.json", "problem.json", "recipe.json"
KEPT_INPUTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The model that a search recommends: the winner, or the original."""

    folder: Path
    entry: str
    recipe: Recipe
    card: ModelCard
    trial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFolder:
    """Reads a result folder; see ``save_result`` for what lies in it."""

    root: Path

    @property
    def outcome(self) -> SearchOutcome:
        return self._load(SearchOutcome, OUTCOME)

    @property
    def scorecard(self) -> Scorecard:
        return self._load(Scorecard, SCORECARD)

    @property
    def spec(self) -> SearchSpec:
        return from_jsonable(SearchSpec, self._json(PROBLEM)["spec"])

    @property
    def chosen(self) -> Chosen:
        stored = self._json(RECIPE)
        return Chosen(
            folder=self.root / "model",
            entry=str(stored["entry"]),
            recipe=from_jsonable(Recipe, stored["recipe"]),
            card=from_jsonable(ModelCard, self._json(PROBLEM)["card"]),
            trial=int(stored["trial"]),
        )

    @property
    def inputs(self) -> InputSet:
        return load_inputs(self.root / "inputs")

    @property
    def runtimes(self) -> dict[str, str]:
        return dict(self._json(PROBLEM)["hardware"]["runtimes"])

    def reports(self) -> list[StageReport]:
        return [from_jsonable(StageReport, json.loads(path.read_text())) for path in sorted((self.root / "reports").glob("*.json"))]

    def _load(self, kind: type[T], name: str) -> T:
        return from_jsonable(kind, self._json(name))

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.root / name).read_text())
        except (OSError, ValueError):
            raise InputError("result.unreadable", f"{self.root} is no result folder: {name} is missing or damaged.") from None


def is_result_folder(path: Path) -> bool:
    return (path / OUTCOME).is_file()


def save_result(
    root: Path, *, problem: SearchProblem, outcome: SearchOutcome, scorecard: Scorecard, reports: Sequence[StageReport], source: str
) -> ResultFolder:
    """Write outcome, scorecard, problem, one file per stage report, the raw samples, the chosen model and a few inputs below ``root``."""
    described = {
        "source": source,
        "card": to_jsonable(problem.card),
        "spec": to_jsonable(problem.spec),
        "hardware": to_jsonable(problem.hardware),
        "inputs": {"source": problem.inputs.source.value, "n": problem.inputs.n, "description": problem.inputs.description},
    }
    (root / "reports").mkdir(parents=True, exist_ok=True)
    if (problem.workspace / "samples").exists():
        shutil.move(problem.workspace / "samples", root / "samples")
    for report in reports:
        _write(
            root / "reports" / f"{report.trial:03d}-{list(Stage).index(report.stage)}-{report.stage.value}.json",
            to_jsonable(_with_local_paths(report)),
        )
    _write(root / PROBLEM, described)
    _keep_inputs(problem.inputs, root / "inputs")
    _keep_model(root, problem=problem, trial=outcome.winner or 0, reports=reports)
    _write(root / SCORECARD, to_jsonable(scorecard))
    _write(root / OUTCOME, to_jsonable(outcome))
    return ResultFolder(root=root)


def _with_local_paths(report: StageReport) -> StageReport:
    """Sample files named relative to the result folder, so that it can be moved."""
    return replace(report, artifacts=tuple(replace(one, path=f"samples/{Path(one.path).name}") for one in report.artifacts))


def _keep_model(root: Path, *, problem: SearchProblem, trial: int, reports: Sequence[StageReport]) -> None:
    build = next(one for one in reports if one.trial == trial and one.stage is Stage.BUILD and one.status is StageStatus.OK)
    found = BuildCache(problem.workspace / "builds").find(str(build.detail.get("build_key"))) if build.recipe.is_built else None
    folder, entry = (found.folder, found.entry) if found else (problem.model_dir, problem.entry)
    shutil.copytree(folder, root / "model", dirs_exist_ok=True)
    _write(root / RECIPE, {"trial": trial, "entry": entry, "recipe": to_jsonable(build.recipe)})


def _keep_inputs(inputs: InputSet, target: Path) -> None:
    part = portion(inputs, tuple(range(min(KEPT_INPUTS, inputs.n))), root=target.parent / ".inputs")
    shutil.rmtree(target, ignore_errors=True)
    part.folder.rename(target)
    shutil.rmtree(target.parent / ".inputs", ignore_errors=True)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
