"""Replays: the verdict from given numbers, bundles of any origin, and real replays through the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from optimizer.cli import run
from optimizer.errors import InputError
from optimizer.export.agreement import Agreement, OutputAgreement, compare_samples, worst_of
from optimizer.export.contents import Recorded
from optimizer.export.packages import required_packages, version_gaps
from optimizer.export.reading import open_bundle
from optimizer.export.replay import Replay, ReplayVerdict, conclude, departures, latency_effect
from optimizer.specs import BackendSettings, Precision, Recipe
from tests.engine.export.bundles import COMPILED_BATCHES, COMPILED_CACHED, PLAIN, PLAIN_BATCHES, PLAIN_CACHED, tiny_bundle
from tests.samples import mlp

REDUCED = Recipe(backend="openvino", settings=BackendSettings(precision=Precision.BF16))
STEADY = (1.0, 1.001, 0.999, 1.0005, 0.9995)
QUICK = ["--sandbox", "C", "--starts", "3", "--quiet", "--json"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recorded at an hour a call: whatever is measured here is faster."""
    return tiny_bundle(tmp_path_factory.mktemp("replayed"), starts_ms=(3.6e6, 3.61e6, 3.59e6))


@pytest.fixture
def folder(bundle: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "bundle")
    return tmp_path / "bundle"


def compared(expected: np.ndarray, found: np.ndarray) -> OutputAgreement:
    return compare_samples(["y"], [[expected]], [[found]])[0]


def test_outputs_are_same_close_or_different() -> None:
    y = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    assert compared(y, y).agreement is Agreement.SAME
    assert compared(y, y + 1e-6 * noise).agreement is Agreement.SAME
    near = compared(y, y + 0.01 * noise)
    assert near.agreement is Agreement.CLOSE
    assert near.cosine is not None
    assert 0.999 < near.cosine < 1
    assert compared(y, y + 0.3 * noise).agreement is Agreement.DIFFERENT
    assert compared(y, -y).agreement is Agreement.DIFFERENT
    assert compared(y, y[:2]).agreement is Agreement.DIFFERENT


def test_one_large_error_in_a_long_output_is_not_close() -> None:
    y = np.ones(100_000, np.float32)
    bent = y.copy()
    bent[7] = 1.2
    found = compared(y, bent)
    assert found.cosine is not None
    assert found.cosine > 0.999
    assert found.agreement is Agreement.DIFFERENT


def test_integers_and_non_finite_places_must_be_equal() -> None:
    labels = np.array([1, 2, 3])
    assert compared(labels, labels).agreement is Agreement.SAME
    assert compared(labels, np.array([1, 2, 4])).agreement is Agreement.DIFFERENT
    holes = np.array([1.0, np.nan, np.inf], np.float32)
    assert compared(holes, holes).agreement is Agreement.SAME
    assert compared(holes, np.array([1.0, np.nan, -np.inf], np.float32)).agreement is Agreement.DIFFERENT
    assert compared(holes, np.array([1.0, 2.0, np.inf], np.float32)).agreement is Agreement.DIFFERENT


def test_missing_examples_or_outputs_are_different() -> None:
    y = np.ones(3)
    assert worst_of(compare_samples(["y"], [[y], [y]], [[y]])) is Agreement.DIFFERENT
    assert worst_of(compare_samples(["y"], [[y]], [[y, y]])) is Agreement.DIFFERENT
    assert worst_of(()) is Agreement.DIFFERENT


def outcome(agreement: Agreement | None, here_ms: tuple[float, ...], *, recipe: Recipe = PLAIN, recorded_ms: tuple[float, ...] = STEADY):
    outputs = None if agreement is None else (OutputAgreement(name="y", agreement=agreement),)
    latency = latency_effect(Recorded(start_latencies_p50_ms=recorded_ms), here_ms)
    return conclude(Replay(recipe=recipe, gaps=(), departures=(), outputs=outputs, latency=latency)).verdict


def test_the_verdict_follows_outputs_and_latency() -> None:
    half, double = tuple(one / 2 for one in STEADY), tuple(one * 2 for one in STEADY)
    assert outcome(Agreement.SAME, STEADY) is ReplayVerdict.REPRODUCED
    assert outcome(Agreement.SAME, half) is ReplayVerdict.REPRODUCED
    assert outcome(Agreement.SAME, double) is ReplayVerdict.NOT_REPRODUCED
    assert outcome(Agreement.DIFFERENT, half) is ReplayVerdict.NOT_REPRODUCED
    assert outcome(Agreement.SAME, (0.7, 1.3)) is ReplayVerdict.UNDECIDED
    assert outcome(Agreement.SAME, STEADY, recorded_ms=()) is ReplayVerdict.UNDECIDED
    assert outcome(None, STEADY) is ReplayVerdict.UNDECIDED


def test_close_outputs_count_only_for_recipes_that_round_by_design() -> None:
    assert outcome(Agreement.CLOSE, STEADY) is ReplayVerdict.UNDECIDED
    assert outcome(Agreement.CLOSE, STEADY, recipe=REDUCED) is ReplayVerdict.REPRODUCED


def test_departures_of_versions_and_environment_are_named() -> None:
    pins = required_packages("onnxruntime")
    assert version_gaps(pins) == ()
    gaps = version_gaps(["# note", "numpy==0.0.1", "no-such-package==1.0", *pins[:1]])
    assert [(gap.package, gap.wanted) for gap in gaps] == [("numpy", "0.0.1"), ("no-such-package", "1.0")]
    assert gaps[1].found == ""
    assert departures(Recorded(environment={"cores": 2, "os": "a"}), {"cores": 4, "os": "a"}) == ("cores",)
    assert departures(Recorded(), {"cores": 4}) == ()


def test_a_bundle_is_replayed_from_zip_and_from_folder(bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (bundle, folder):
        assert run(["replay", str(path), *QUICK]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["verdict"], found["agreement"], found["effect"]) == ("reproduced", "same", "faster")
        assert found["speedup"]["ci_low"] > 1
        assert found["versions"] == []
        assert len(found["starts_p50_ms"]) == 3
        assert next(one for one in found["measurements"] if one["kpi"] == "latency_p50_ms")["starts"] == 3


def resealed(folder: Path, name: str, change: Callable[[Path], object]) -> None:
    """Change a file and the manifest with it, as somebody could who wants to be believed."""
    change(folder / name)
    manifest = json.loads((folder / "manifest.json").read_text())
    content = (folder / name).read_bytes()
    manifest[name] = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def edited(**changes: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("recipe", [PLAIN_CACHED, COMPILED_CACHED], ids=["onnxruntime", "openvino"])
def test_a_bundle_with_a_start_cache_is_replayed_from_the_model_itself(
    tmp_path: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["replay", str(tiny_bundle(tmp_path, recipe, starts_ms=(3.6e6, 3.61e6, 3.59e6))), *QUICK]) == 0
    assert json.loads(capsys.readouterr().out)["agreement"] == "same"


@pytest.mark.parametrize("recipe", [PLAIN_BATCHES, COMPILED_BATCHES], ids=["onnxruntime", "openvino"])
def test_a_bundle_of_batches_and_streams_is_replayed_with_them(tmp_path: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    target = tiny_bundle(tmp_path, recipe, starts_ms=(3.6e6, 3.61e6, 3.59e6))
    assert run(["replay", str(target), *QUICK]) == 0
    data = json.loads(capsys.readouterr().out)
    by_name = {one["kpi"]: one["value"] for one in data["measurements"]}
    assert data["agreement"] == "same"
    assert by_name["throughput_per_s"] * by_name["latency_mean_ms"] / 1000 > 4


def test_another_model_is_not_reproduced_and_the_terminal_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resealed(folder, "model/model.onnx", lambda path: mlp(path, hidden=48))
    resealed(folder, "requirements.txt", lambda path: path.write_text("numpy==0.0.1\n"))
    resealed(folder, "measurements.json", edited(environment={"hardware": "other", "cpu_model": "abacus"}))
    assert run(["replay", str(folder), *QUICK[:-1]]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "Not reproduced: the outputs are different" in shown
    assert "instead of 0.0.1" in shown
    assert "other hardware: the recorded latency answers another question" in shown


def test_a_slower_replay_is_not_reproduced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resealed(folder, "measurements.json", edited(start_latencies_p50_ms=[1e-6, 1.01e-6, 0.99e-6]))
    assert run(["replay", str(folder), *QUICK]) == 1
    assert json.loads(capsys.readouterr().out)["effect"] == "slower"


def _garbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("recipe.json", Path.unlink, "bundle.not_one"),
        ("manifest.json", Path.unlink, "bundle.not_one"),
        ("samples/outputs.npz", Path.unlink, "bundle.incomplete"),
        ("measurements.json", Path.unlink, "bundle.incomplete"),
        ("model/model.onnx", Path.unlink, "bundle.incomplete"),
        ("model/model.onnx", _garbled, "bundle.damaged"),
        ("manifest.json", lambda path: path.write_text("{"), "bundle.damaged"),
        ("manifest.json", lambda path: path.write_text("{}"), "bundle.incomplete"),
    ],
)
def test_a_bundle_that_lost_or_changed_a_file_is_refused(folder: Path, name: str, change: Callable[[Path], object], code: str) -> None:
    change(folder / name)
    with pytest.raises(InputError) as refused:
        open_bundle(folder, folder=folder.parent / "out")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("recipe.json", edited(schema_version=99), "bundle.version"),
        ("recipe.json", edited(entry="../../etc/passwd"), "zip.path"),
        ("recipe.json", edited(entry="serve.py"), "bundle.incomplete"),
        ("recipe.json", edited(samples=0), "bundle.damaged"),
        ("recipe.json", edited(recipe={"backend": 3}), "bundle.damaged"),
        ("recipe.json", edited(recipe={"backend": "onnxruntime", "settings": {"batch": 10**9}}), "bundle.damaged"),
        ("recipe.json", edited(recipe={"backend": "onnxruntime", "settings": {"streams": 0}}), "bundle.damaged"),
        ("measurements.json", edited(start_latencies_p50_ms=[-1]), "bundle.damaged"),
        ("measurements.json", edited(margin=5), "bundle.damaged"),
    ],
)
def test_impossible_claims_are_refused_even_with_a_fitting_manifest(
    folder: Path, name: str, change: Callable[[Path], object], code: str
) -> None:
    resealed(folder, name, change)
    with pytest.raises(InputError) as refused:
        open_bundle(folder, folder=folder.parent / "out")
    assert refused.value.code == code


def test_a_link_out_of_the_folder_is_not_followed(folder: Path) -> None:
    outside = folder.parent / "elsewhere.onnx"
    shutil.move(folder / "model/model.onnx", outside)
    (folder / "model/model.onnx").symlink_to(outside)
    with pytest.raises(InputError, match=r"bundle\.incomplete"):
        open_bundle(folder, folder=folder.parent / "out")


def test_a_hostile_or_foreign_zip_ends_with_its_code_and_exit_four(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "climbs.zip", "w") as archive:
        archive.writestr("../evil", "x")
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as archive:
        archive.writestr("hello.txt", "x")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 not a zip")
    for name, code in (("climbs", "zip.path"), ("foreign", "bundle.not_one"), ("cut", "zip.header"), ("absent", "input.missing")):
        assert run(["replay", str(tmp_path / f"{name}.zip"), *QUICK]) == 4
        assert capsys.readouterr().err.startswith(code)
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("model/model.onnx", lambda path: path.write_bytes(b"\x80\x04pickle"), "format."),
        ("samples/inputs.npz", lambda path: path.write_bytes(b"nothing"), ""),
        ("samples/outputs.npz", lambda path: path.write_bytes(b"nothing"), "bundle.damaged"),
    ],
)
def test_content_that_only_a_child_reads_is_refused_too(
    folder: Path, name: str, change: Callable[[Path], object], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    resealed(folder, name, change)
    assert run(["replay", str(folder), *QUICK]) in (3, 4)
    written = capsys.readouterr()
    assert written.err.startswith(code)
    assert written.out == ""
