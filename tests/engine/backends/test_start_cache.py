"""Prepared starts: used where they were made, ignored anywhere else, and never another answer."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest

from optimizer.backends import BACKENDS, backend
from optimizer.backends.start_cache import FOLDER, STAMP, PreparesStarts, processor
from optimizer.export import serve
from optimizer.specs import BackendSettings
from tests.samples import mlp

PREPARING = sorted(name for name, one in BACKENDS.items() if isinstance(one, PreparesStarts))
PLAIN, CACHED = BackendSettings(threads=1), BackendSettings(threads=1, cached=True)
SHAPES = {"x": (1, 16)}
X = {"x": np.random.default_rng(5).normal(size=(1, 16)).astype(np.float32)}
every_preparing_backend = pytest.mark.parametrize("name", PREPARING)


def prepared(name: str, folder: Path, settings: BackendSettings = CACHED) -> Path:
    folder.mkdir(exist_ok=True)
    model = mlp(folder / "model.onnx")
    (folder / FOLDER).mkdir()
    backend(name).prepare(model, settings, shapes=SHAPES, folder=folder / FOLDER)  # type: ignore[attr-defined]
    return model


def fact(name: str, model: Path, settings: BackendSettings = CACHED) -> str:
    session = backend(name).open(model, settings, shapes=SHAPES)
    session.run(X)
    return str(session.facts().get("start_cache", ""))


def test_both_runtimes_prepare_starts() -> None:
    assert PREPARING == ["onnxruntime", "openvino"]


@every_preparing_backend
def test_a_prepared_start_gives_the_same_answers_and_needs_no_model(tmp_path: Path, name: str) -> None:
    model = prepared(name, tmp_path / "m")
    expected = backend(name).open(model, PLAIN, shapes=SHAPES).run(X)[0]
    session = backend(name).open(model, CACHED, shapes=SHAPES)
    np.testing.assert_allclose(session.run(X)[0], expected, rtol=1e-6)
    assert session.facts()["start_cache"] == "used"
    assert [one.name for one in session.inputs] == ["x"]
    model.write_bytes(b"\0" * model.stat().st_size)
    assert fact(name, model) == "used"


@every_preparing_backend
def test_a_cache_is_looked_for_only_where_the_recipe_has_one(tmp_path: Path, name: str) -> None:
    assert fact(name, prepared(name, tmp_path / "m"), PLAIN) == ""


@every_preparing_backend
@pytest.mark.parametrize("what", ["runtime", "processor", "settings", "model"])
def test_a_cache_made_under_other_conditions_is_not_used(tmp_path: Path, name: str, what: str) -> None:
    model = prepared(name, tmp_path / "m")
    stamp = json.loads((tmp_path / "m" / FOLDER / STAMP).read_text())
    stamp["conditions"][what] = "another"
    (tmp_path / "m" / FOLDER / STAMP).write_text(json.dumps(stamp))
    assert fact(name, model) == f"not used: made under another {what}"


@every_preparing_backend
@pytest.mark.parametrize("damage", ["stamp", "file", "nonsense", "elsewhere"])
def test_a_damaged_cache_is_as_good_as_none(tmp_path: Path, name: str, damage: str) -> None:
    model = prepared(name, tmp_path / "m")
    folder = tmp_path / "m" / FOLDER
    stamp = json.loads((folder / STAMP).read_text())
    if damage == "stamp":
        (folder / STAMP).unlink()
    elif damage == "file":
        (folder / stamp["file"]).unlink()
    elif damage == "nonsense":
        (folder / STAMP).write_text("[1]")
    else:
        shutil.copy(folder / stamp["file"], tmp_path / "outside")
        (folder / STAMP).write_text(json.dumps({**stamp, "file": "../../outside"}))
    assert fact(name, model).startswith("not used")


def test_other_threads_or_shapes_ask_for_another_compiled_model(tmp_path: Path) -> None:
    model = prepared("openvino", tmp_path / "m")
    assert fact("openvino", model, BackendSettings(threads=2, cached=True)) == "not used: made under another settings"


def test_the_processor_is_told_by_model_and_instruction_sets(tmp_path: Path) -> None:
    told = []
    for text in (
        "model name: a\nflags: x y\ncpu MHz: 1\n\nmodel name: other",
        "model name: a\nflags: x y\ncpu MHz: 2\n",
        "model name: a\nflags: x\n",
    ):
        (tmp_path / "cpuinfo").write_text(text)
        told.append(processor(tmp_path / "cpuinfo"))
    assert told[0] == told[1] != told[2]


def test_the_processor_is_asked_of_the_system_only_where_linux_does_not_tell_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("model name: a\nflags: x y\n")
    for told_by in (processor, serve.processor):
        told = []
        for name in ("first", "second"):
            monkeypatch.setattr(platform, "processor", lambda name=name: name)
            told += [told_by(tmp_path / "cpuinfo"), told_by(tmp_path / "none")]
        assert told[0] == told[2]
        assert len(set(told)) == 3


def test_a_bundle_s_server_names_the_processor_as_the_build_did(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags: x y\nmodel name: a\n\nmodel name: other")
    for path in (tmp_path / "cpuinfo", tmp_path / "none", Path("/proc/cpuinfo")):
        assert serve.processor(path) == processor(path)
