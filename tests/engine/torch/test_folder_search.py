"""A Hugging Face folder through the commands alone: searched against itself in PyTorch, exported, loaded by the notes, replayed."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from optimizer.cli import run
from optimizer.cli_search import EXIT_OF
from optimizer.export import BundleContent, write_bundle
from optimizer.export.samples import Artifact, make_samples
from optimizer.result_folder import ResultFolder
from optimizer.rounding import all_agree
from optimizer.sandbox import Level, Sandbox
from optimizer.specs import BackendSettings, Precision, Recipe, Stage, StageStatus
from tests import folders
from tests.engine.export.bundles import input_set

LENGTH = 24
CHECK = """
import numpy as np
inputs = np.load("samples/inputs.npz")
input_input_ids, input_attention_mask, input_token_type_ids = (
    inputs[name][0] for name in ("input_ids", "attention_mask", "token_type_ids")
)
"""
KEEP = """
np.savez("answer.npz", *outputs)
"""


def examples(count: int) -> dict[str, np.ndarray]:
    """Seeded token ids, masks that pad every other example, and segments: int64 [count, length]."""
    rng = np.random.default_rng(0)
    mask = np.ones((count, LENGTH), np.int64)
    mask[::2, LENGTH // 2 :] = 0
    shape = (count, LENGTH)
    return {"input_ids": rng.integers(0, 64, shape), "attention_mask": mask, "token_type_ids": rng.integers(0, 2, shape)}


@pytest.mark.flow
@pytest.mark.slow
def test_a_folder_is_searched_against_itself_exported_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out, bundle = folders.encoder(tmp_path / "net"), tmp_path / "result", tmp_path / "bundle.zip"
    np.savez(tmp_path / "data.npz", **examples(600))  # type: ignore[arg-type]
    asked = ["--inputs", str(tmp_path / "data.npz"), "--bind", f"sequence={LENGTH}", "--budget", "120"]
    arguments = [*asked, "--out", str(out), "--sandbox", "C", "--quiet"]
    code = run(["search", str(model), *arguments])
    result = ResultFolder(root=out)
    assert code == EXIT_OF[result.outcome.decision]
    reports = result.reports()
    assert {report.recipe.backend for report in reports if report.trial == 0} == {"pytorch"}
    exported = [one for one in reports if "onnx_export" in [step.name for step in one.recipe.passes] and one.stage is Stage.GATE]
    assert any(one.status is StageStatus.OK for one in exported)
    assert (out / "model" / result.chosen.entry).is_file()
    assert run(["export", str(out), "--out", str(bundle)]) == 0
    capsys.readouterr()
    assert run(["replay", str(bundle), "--sandbox", "C", "--starts", "2", "--seconds", "0.1", "--quiet", "--json"]) in (0, 1, 2)
    assert json.loads(capsys.readouterr().out)["agreement"] == "same"


@pytest.mark.parametrize("precision", [Precision.F32, Precision.BF16])
def test_the_notes_of_a_pytorch_bundle_load_what_was_measured(tmp_path: Path, precision: Precision) -> None:
    model = folders.encoder(tmp_path / "net")
    recipe = Recipe(backend="pytorch", settings=BackendSettings(threads=1, precision=precision))
    inputs = input_set(tmp_path / "inputs", {name: array[:, None] for name, array in examples(4).items()})
    with Sandbox(root=tmp_path / "children", level=Level.C) as sandbox:
        artifact = Artifact(folder=model, entry="config.json", recipe=recipe)
        samples = make_samples(artifact, inputs=inputs, indices=range(4), sandbox=sandbox, root=tmp_path / "samples")
    content = BundleContent(model_dir=model, entry="config.json", recipe=recipe, samples=samples, shapes=inputs.shapes)
    write_bundle(content, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "bundle")
    notes = (tmp_path / "bundle" / "README.txt").read_text()
    code = CHECK + textwrap.dedent(notes.split("Load it with Python:")[1]) + KEEP
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path / "bundle", check=True, capture_output=True)
    with np.load(tmp_path / "bundle" / "answer.npz") as answer, np.load(samples.folder / "outputs.npz") as stored:
        ours, theirs = [stored["0/0"], stored["1/0"]], [answer["arr_0"], answer["arr_1"]]
    assert all_agree(ours, theirs)
    pins = (tmp_path / "bundle" / "requirements.txt").read_text()
    assert "torch==" in pins
    assert "transformers==" in pins
