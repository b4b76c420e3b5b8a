"""``parka-optimize`` for real, in an empty folder: real children, real files, no database and no server."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.cli import run
from optimizer.result_folder import ResultFolder
from optimizer.specs import Decision, Stage, StageStatus
from tests.samples import mlp, sample_path

DECIDED = {Decision.WINNER: 0, Decision.KEEP_ORIGINAL: 0, Decision.INCONCLUSIVE: 2}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return mlp(tmp_path / "net.onnx", batch="batch", width=64, hidden=256, layers=3)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32))
    return path


def test_inspect_shows_the_model_card(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(model), "--sandbox", "C"]) == 0
    shown = capsys.readouterr().out
    assert "x  float32 [batch, 64]" in shown
    assert "batch = 1" in shown


def test_inspect_prints_json_and_binds_dimensions(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(model), "--bind", "batch=4", "--json", "--sandbox", "C"]) == 0
    assert json.loads(capsys.readouterr().out)["bindings"] == {"batch": 4}


def _pickle(folder: Path) -> Path:
    path = folder / "evil.onnx"
    path.write_bytes(pickle.dumps({"a": [1, 2, 3]}))
    return path


def _truncated(folder: Path) -> Path:
    whole = mlp(folder / "whole.onnx").read_bytes()
    path = folder / "cut.onnx"
    path.write_bytes(whole[: len(whole) // 2])
    return path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["inspect", "nowhere.onnx"], "input.missing"),
        (["inspect", "{pickle}"], "format."),
        (["inspect", "{truncated}"], "onnx."),
        (["inspect", "{model}", "--bind", "height=3"], "input.refused"),
        (["search", "{model}", "--target", "latency_p50_ms<=-1"], "target.not_positive"),
        (["search", "{model}", "--target", "latency_p50_ms<=nan"], "target.not_finite"),
        (["search", "{model}", "--target", "speed>=3"], "kpi.unknown"),
        (["search", "{model}", "--budget", "0"], "budget.not_positive"),
        (["search", "{model}", "--budget", "nan"], "budget.not_positive"),
        (["search", "{model}", "--budget", "2"], "budget.too_small"),
        (["search", "{model}", "--objective", "power_w"], "objective.unsupported"),
        (["search", "{model}", "--out", "{folder}"], "out.exists"),
        (["export", "{folder}"], "result.unreadable"),
        (["bench", "{model}", "--backend", "abacus"], "backend.unknown"),
    ],
)
def test_bad_input_ends_with_its_code_on_stderr_and_exit_four(
    arguments: list[str], code: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "{model}": str(model),
        "{folder}": str(tmp_path),
        "{pickle}": str(_pickle(tmp_path)),
        "{truncated}": str(_truncated(tmp_path)),
    }
    assert run([places.get(argument, argument) for argument in arguments] + ([] if arguments[0] == "export" else ["--sandbox", "C"])) == 4
    written = capsys.readouterr()
    last = written.err.strip().splitlines()[-1]
    assert last.startswith(code)
    assert written.out == ""


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["search"], ["search", "m.onnx", "--budget", "soon"], ["bench", "m", "--starts", "0"]]
)
def test_wrong_usage_is_exit_four_and_not_clicks_two(arguments: list[str]) -> None:
    assert run(arguments) == 4


def test_a_refused_search_leaves_nothing_behind(model: Path, empty_folder: Path) -> None:
    assert run(["search", str(model), "--budget", "2", "--sandbox", "C"]) == 4
    assert list(empty_folder.iterdir()) == []


def test_bench_measures_a_model_as_it_is(model: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", str(model), "--inputs", str(dataset), "--starts", "3", "--seconds", "0.1", "--sandbox", "C", "--quiet"]
    assert run([*arguments, "--json"]) == 0
    measured = {one["kpi"]: one for one in json.loads(capsys.readouterr().out)["measurements"]}
    assert measured["latency_p50_ms"]["starts"] == 3
    median = measured["latency_p50_ms"]
    assert median["ci_low"] is None or median["ci_low"] <= median["value"]  # three noisy starts may leave an end open
    assert run([*arguments, "--target", "model_size<=10MiB"]) == 0
    assert run([*arguments, "--target", "model_size<=10MiB", "--target", "throughput>=1000000000"]) == 1


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """One real search of a tiny model, its exit code and its result folder."""
    folder = tmp_path_factory.mktemp("searched")
    upload = mlp(folder / "net.onnx", batch="batch", width=64, hidden=256, layers=3)
    np.savez(folder / "data.npz", x=np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32))
    out = folder / "result"
    code = run(
        ["search", str(upload), "--inputs", str(folder / "data.npz"), "--budget", "40", "--out", str(out), "--sandbox", "C", "--quiet"]
    )
    return code, out


def test_a_search_decides_and_leaves_a_readable_result_folder(searched: tuple[int, Path]) -> None:
    code, root = searched
    result = ResultFolder(root=root)
    outcome = result.outcome
    assert code == DECIDED[outcome.decision]
    assert outcome.reason
    assert result.scorecard.finding
    reports = result.reports()
    stages = {report.stage for report in reports if report.trial == 0 and report.status is StageStatus.OK}
    assert {Stage.BUILD, Stage.GATE, Stage.RACE, Stage.CONFIRM} <= stages
    assert (root / "model" / result.chosen.entry).is_file()
    assert not (root / ".work").exists()
    for report in reports:
        for artifact in report.artifacts:
            assert (root / artifact.path).is_file()


def test_the_result_can_be_exported(searched: tuple[int, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, root = searched
    assert run(["export", str(root), "--out", "bundle.zip", "--json", "--sandbox", "C"]) == 0
    reference = json.loads(capsys.readouterr().out)
    with zipfile.ZipFile("bundle.zip") as archive:
        names = archive.namelist()
        measurements: dict[str, Any] = json.loads(archive.read("measurements.json"))
    assert {"README.txt", "recipe.json", "measurements.json", "serve.py", "samples/outputs.npz"} < set(names)
    assert len(measurements["start_latencies_p50_ms"]) >= 2
    assert measurements["environment"]["sandbox_level"] == "C"
    assert measurements["decision"] == ResultFolder(root=root).outcome.decision.value
    assert reference["role"] == "bundle"
    assert run(["export", str(root), "--out", "bundle.zip"]) == 4


@pytest.mark.flow
def test_what_was_exported_is_replayed_here(searched: tuple[int, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, root = searched
    assert run(["export", str(root), "--out", "replayed.zip", "--sandbox", "C"]) == 0
    capsys.readouterr()
    code = run(["replay", "replayed.zip", "--sandbox", "C", "--starts", "4", "--seconds", "0.3", "--quiet", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == {"reproduced": 0, "not_reproduced": 1, "undecided": 2}[found["verdict"]]
    assert found["agreement"] == "same"
    assert found["environment_differs_in"] == []
    assert 1 / 20 < found["speedup"]["value"] < 20  # two sessions on a shared machine, not two machines


@pytest.mark.flow
def test_a_result_can_be_raced_against_a_model(searched: tuple[int, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, root = searched
    upload = root.parent / "net.onnx"
    code = run(["compare", str(upload), str(root), "--inputs", str(root.parent / "data.npz"), "--sandbox", "C", "--quiet", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code in (0, 2)
    assert found["blocks"] + found["repeated_blocks"] >= 6
    assert found["outputs"]["verdict"] in ("pass", "unproven")


@pytest.mark.flow
@pytest.mark.parametrize(
    ("sample", "arguments"),
    [
        ("S2.cls", ["--budget", "100"]),
        pytest.param("S1", ["--bind", "sequence_length=128", "--target", "latency_p50_ms<=0.8x"], marks=pytest.mark.slow),
        pytest.param("S2.rec", [], marks=pytest.mark.slow),
    ],
)
def test_real_models_are_searched_in_an_empty_folder(
    sample: str, arguments: list[str], empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["search", str(sample_path(sample)), *arguments, "--quiet", "--json"])
    found = json.loads(capsys.readouterr().out)
    outcome = found["outcome"]
    assert code == DECIDED[Decision(outcome["decision"])]
    assert outcome["input_source"] == "proxy"
    assert outcome["trials"] >= 2
    assert Path(found["folder"]).parent == empty_folder.resolve()
    assert found["scorecard"]["finding"]
    if outcome["winner"] is not None:
        assert outcome["sealed_examples"] >= 368
        assert next(duel for duel in outcome["duels"] if duel["trial"] == outcome["winner"])["effect"] == "faster"
