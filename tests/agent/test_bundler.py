"""The agent packs a proven candidate with its sandbox, and goes on without a bundle when that cannot be done."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from optimizer.formats import inspect_model
from optimizer.hardware import probe
from optimizer.measure.records import StartSamples, write_samples
from optimizer.sandbox import Level, Sandbox
from optimizer.search.problem import SearchProblem
from optimizer.specs import PassStep, Recipe, SearchSpec, Stage, StageReport
from parka_agent.execution import Bundler
from tests.engine.export.bundles import PLAIN, input_set
from tests.samples import mlp


@pytest.fixture
def problem(tmp_path: Path) -> SearchProblem:
    (tmp_path / "model").mkdir()
    entry = mlp(tmp_path / "model" / "model.onnx")
    inputs = input_set(tmp_path / "all", {"x": np.ones((4, 1, 16), np.float32)})
    (inputs.folder / "examples.json").write_text(json.dumps([f"{number:064x}" for number in range(4)]))
    return SearchProblem(
        model_dir=entry.parent, entry=entry.name, card=inspect_model(entry), spec=SearchSpec(), hardware=probe(benchmark=False),
        inputs=inputs, workspace=tmp_path,
    )  # fmt: skip


def bundled(problem: SearchProblem, recipe: Recipe) -> Any:
    issued = np.arange(40, dtype=np.int64) * 1_000_000
    starts = [StartSamples(start_id=one, block_id=one, issued_ns=issued, completed_ns=issued + 500_000 * (one + 1)) for one in range(2)]
    raced = write_samples(starts, folder=problem.workspace / "samples")
    sent = [
        StageReport(trial=2, stage=Stage.BUILD, recipe=recipe),
        StageReport(trial=2, stage=Stage.RACE, recipe=recipe, artifacts=(raced,), environment={"cores": 2}),
    ]
    with Sandbox(root=problem.workspace / "children", level=Level.C) as sandbox:
        lease = SimpleNamespace(reports=list)
        attempt = SimpleNamespace(run=SimpleNamespace(lease=lease), sandbox=sandbox, folder=problem.workspace)
        bundler = Bundler(attempt=cast("Any", attempt))
        bundler.problem, bundler.observer = problem, cast("Any", SimpleNamespace(sent=sent))
        return bundler(StageReport(trial=2, stage=Stage.CONFIRM, recipe=recipe))


def test_the_bundle_carries_the_races_own_starts(problem: SearchProblem) -> None:
    reference = bundled(problem, PLAIN)
    with zipfile.ZipFile(reference.path) as archive:
        recorded = json.loads(archive.read("measurements.json"))
        assert "samples/outputs.npz" in archive.namelist()
    assert recorded["start_latencies_p50_ms"] == [0.5, 1.0]
    assert recorded["environment"] == {"cores": 2}


def test_a_candidate_that_cannot_be_opened_or_found_gets_no_bundle(problem: SearchProblem) -> None:
    assert bundled(problem, Recipe(backend="abacus")) is None
    assert bundled(problem, Recipe(backend="onnxruntime", passes=(PassStep(name="simplify"),))) is None
