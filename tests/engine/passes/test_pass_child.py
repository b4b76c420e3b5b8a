"""A recipe applied by a real child: the result and its card come back, the source folder stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.formats import inspect_model
from optimizer.sandbox import ChildJob, ChildOutcome, Level, Sandbox
from optimizer.specs import ModelCard
from tests.engine.passes import models


def run(tmp_path: Path, passes: list[dict[str, object]]) -> ChildOutcome:
    (tmp_path / "model").mkdir()
    model = models.untidy(tmp_path / "model" / "model.onnx")
    job = ChildJob(
        entry="optimizer.passes.child:apply_recipe",
        params={
            "entry": "model.onnx",
            "passes": passes,
            "card": to_jsonable(inspect_model(model)),
            "hardware": to_jsonable(models.HOST),
            "shapes": {"x": [2, 8]},
        },
        binds={"model": tmp_path / "model", "calibration": models.examples_folder(tmp_path / "inputs", models.normal_feeds("x", (2, 8)))},
    )
    sandbox = Sandbox(root=tmp_path / "jobs", level=Level.C)
    try:
        return sandbox.run(job)
    finally:
        sandbox.close()


def test_a_child_applies_a_recipe_and_describes_its_result(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        [{"name": "shape_specialisation", "params": {}}, {"name": "ort_basic", "params": {}}, {"name": "static_int8", "params": {}}],
    )
    assert outcome.result is not None, outcome.failure
    card = from_jsonable(ModelCard, outcome.result["card"])
    assert card.quantized
    assert card.inputs[0].shape == (2, 8)
    assert [sheet["pass"] for sheet in outcome.result["facts"]] == ["shape_specialisation", "ort_basic", "static_int8"]
    assert [file.name for file in sorted(outcome.out_dir.iterdir())] == ["model"]
    feeds = models.normal_feeds("x", (2, 8))
    assert models.outputs_of(outcome.out_dir / "model" / outcome.result["entry"], feeds)[0][0].shape == (2, 8)


@pytest.mark.parametrize(("name", "code"), [("magic", "pass.unknown"), ("transformer_fusion", "pass.not_applicable")])
def test_a_recipe_that_cannot_be_applied_ends_with_its_code(tmp_path: Path, name: str, code: str) -> None:
    outcome = run(tmp_path, [{"name": name, "params": {}}])
    assert outcome.failure is not None
    assert outcome.failure.code == code
