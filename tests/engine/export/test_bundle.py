"""Bundles: what is inside, that equal content gives equal bytes, and that names from a file cannot become code."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from optimizer.errors import EngineFault
from optimizer.export import BundleContent, bundle_trial, write_bundle
from optimizer.specs import BackendSettings, PassStep, Precision, Recipe, Stage, StageReport
from tests.samples import mlp

PLAIN = Recipe(backend="onnxruntime", settings=BackendSettings(threads=2, spinning=False))
COMPILED = Recipe(backend="openvino", settings=BackendSettings(threads=1, precision=Precision.BF16))


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    mlp(tmp_path / "m" / "model.onnx")
    return tmp_path / "m"


def content(model_dir: Path, recipe: Recipe = PLAIN, **changes: object) -> BundleContent:
    settings: dict[str, object] = {"shapes": {"x": (1, 16)}, "summary": {"decision": "winner"}, "runtimes": {"onnxruntime": "1.32.0"}}
    return BundleContent(model_dir=model_dir, entry="model.onnx", recipe=recipe, **{**settings, **changes})  # type: ignore[arg-type]


def test_a_bundle_holds_model_recipe_numbers_and_instructions(model_dir: Path, tmp_path: Path) -> None:
    reference = write_bundle(content(model_dir), tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert archive.namelist() == ["README.txt", "measurements.json", "model/model.onnx", "recipe.json"]
        recipe = json.loads(archive.read("recipe.json"))
        readme = archive.read("README.txt").decode()
    assert recipe["entry"] == "model/model.onnx"
    assert recipe["recipe"]["settings"]["spinning"] is False
    assert "intra_op_num_threads = 2" in readme
    assert reference.size_bytes == (tmp_path / "b.zip").stat().st_size


def test_equal_content_gives_equal_bytes_whenever_it_is_written(model_dir: Path, tmp_path: Path) -> None:
    first = write_bundle(content(model_dir), tmp_path / "a.zip")
    os.utime(model_dir / "model.onnx", (1, 1))
    second = write_bundle(content(model_dir), tmp_path / "b.zip")
    assert first.sha256 == second.sha256
    assert write_bundle(content(model_dir, COMPILED), tmp_path / "c.zip").sha256 != first.sha256


@pytest.mark.parametrize("recipe", [PLAIN, COMPILED])
def test_the_instructions_are_code_that_compiles(model_dir: Path, tmp_path: Path, recipe: Recipe) -> None:
    hostile = {'x"]); import os; os.system("rm -rf /") #\n': (1, 16)}
    write_bundle(content(model_dir, recipe, shapes=hostile), tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        readme = archive.read("README.txt").decode()
    code = "\n".join(line[4:] for line in readme.partition("Load it with Python:")[2].splitlines())
    compile(code, "readme", "exec")
    assert "os.system" not in code.replace('"x\\"]); import os; os.system(\\"rm -rf /\\") #\\n"', "")


def test_a_trial_without_passes_is_bundled_from_the_upload(model_dir: Path, tmp_path: Path) -> None:
    reports = [StageReport(trial=0, stage=Stage.BUILD, recipe=PLAIN)]
    found = bundle_trial(0, reports=reports, model_dir=model_dir, entry="model.onnx", workspace=tmp_path, target=tmp_path / "b.zip")
    assert found.role == "bundle"


def test_a_build_that_is_gone_is_said(model_dir: Path, tmp_path: Path) -> None:
    recipe = Recipe(backend="openvino", passes=(PassStep(name="simplify"),))
    reports = [StageReport(trial=3, stage=Stage.BUILD, recipe=recipe, detail={"build_key": "0" * 64})]
    for trial in (3, 4):
        with pytest.raises(EngineFault) as lost:
            bundle_trial(trial, reports=reports, model_dir=model_dir, entry="model.onnx", workspace=tmp_path, target=tmp_path / "b.zip")
        assert lost.value.code == "build.lost"


def test_nothing_half_written_is_left_behind(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_bundle(content(model_dir, summary={"bad": float("nan")}), tmp_path / "out" / "b.zip")
    assert list((tmp_path / "out").iterdir()) == []
