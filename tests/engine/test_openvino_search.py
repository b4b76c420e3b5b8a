"""A model that arrives as an OpenVINO IR is inspected, searched and exported by the commands alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from optimizer.cli import run
from optimizer.cli_search import EXIT_OF
from optimizer.result_folder import ResultFolder
from optimizer.specs import Stage, StageStatus
from tests import samples


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return samples.openvino_ir(tmp_path / "net.xml", build=lambda path: samples.mlp(path, batch="batch", width=64, hidden=256, layers=3))


def test_inspect_finds_the_weights_beside_the_description(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(model), "--json", "--sandbox", "C"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["format"], card["external_files"]) == ("openvino_ir", ["model.bin"])
    model.with_suffix(".bin").unlink()
    assert run(["inspect", str(model), "--sandbox", "C"]) == 4
    assert "openvino.weights_missing" in capsys.readouterr().err


@pytest.mark.flow
@pytest.mark.slow
def test_an_ir_is_searched_against_itself_and_what_cannot_rewrite_it_is_named(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32))
    out = tmp_path / "result"
    arguments = ["--inputs", str(tmp_path / "data.npz"), "--budget", "60", "--out", str(out), "--sandbox", "C", "--quiet"]
    code = run(["search", str(model), *arguments])
    result = ResultFolder(root=out)
    assert code == EXIT_OF[result.outcome.decision]
    reports = [report for report in result.reports() if report.trial == 0]
    assert {report.recipe.backend for report in reports} == {"openvino"}
    assert Stage.RACE in {report.stage for report in reports if report.status is StageStatus.OK}
    reasons = {one.reason for one in result.outcome.not_tried}
    assert {"It does not rewrite openvino_ir models.", "It does not read openvino_ir models."} <= reasons
    assert (out / "model" / result.chosen.entry).is_file()
    assert run(["export", str(out), "--out", str(tmp_path / "bundle.zip")]) == 0
