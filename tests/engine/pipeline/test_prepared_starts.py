"""A recipe with a start cache through real children: built once, carried by the build, used by fresh starts of whole batches and of traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from optimizer.formats import inspect_model
from optimizer.hardware import probe
from optimizer.measure.input_files import write_arrays
from optimizer.measure.inputs import InputSet
from optimizer.measure.traffic import Bucket
from optimizer.pipeline import BuildCache, Pace, Subject, materialise, run_start
from optimizer.pipeline.materialise import key_of
from optimizer.sandbox import Sandbox
from optimizer.specs import BackendSettings, InputSource, PassStep, Recipe
from tests.samples import mlp, save, value

TRAFFIC = tuple(Bucket(share=0.5, shapes={"x": (1, size)}) for size in (8, 16))
PACE = Pace(block_s=0.05, min_iterations=30)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("children")) as sandbox:
        yield sandbox


def subject(folder: Path, *, buckets: tuple[Bucket, ...] = ()) -> Subject:
    (folder / "model").mkdir(parents=True)
    (folder / "inputs").mkdir()
    node = helper.make_node("Tanh", ["x"], ["y"], name="tanh")
    model = save(helper.make_graph([node], "any", [value("x", ["b", "n"])], [value("y", ["b", "n"])]), folder / "model" / "model.onnx")
    write_arrays(folder / "inputs", {"x": np.random.default_rng(1).normal(size=(6, 1, 16)).astype(np.float32)})
    inputs = InputSet(folder=folder / "inputs", source=InputSource.REAL, n=6, digest="tiny", shapes={"x": (1, 16)})
    hardware = probe(benchmark=False)
    return Subject(
        model_dir=folder / "model", entry="model.onnx", card=inspect_model(model), hardware=hardware, inputs=inputs, timing=inputs,
        buckets=buckets, workspace=folder,
    )  # fmt: skip


@pytest.mark.parametrize("buckets", [(), TRAFFIC], ids=["batches", "traffic"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_build_carries_what_its_starts_use(tmp_path: Path, sandbox: Sandbox, backend: str, buckets: tuple[Bucket, ...]) -> None:
    asked = subject(tmp_path, buckets=buckets)
    recipe = Recipe(backend=backend, settings=BackendSettings(threads=1, cached=True, batch=1 if buckets else 4))
    cache = BuildCache(tmp_path / "builds")
    build = materialise(recipe, subject=asked, cache=cache, sandbox=sandbox)
    assert (build.folder / "start-cache" / "stamp.json").is_file()
    assert build.size_bytes > (asked.model_dir / "model.onnx").stat().st_size
    assert build.facts[-1]["pass"] == "start_cache"
    assert materialise(recipe, subject=asked, cache=cache, sandbox=sandbox).sha256 == build.sha256
    start = run_start(build, recipe, subject=asked, sandbox=sandbox, pace=PACE, seed=1)
    assert start.facts["start_cache"] == "used"
    assert (start.buckets is None) is not bool(buckets)
    assert not (asked.model_dir / "start-cache").exists()


@pytest.mark.parametrize(
    ("cached", "sheets"), [(True, ["distillation", "static_int8", "start_cache"]), (False, ["distillation", "static_int8"])]
)
def test_what_a_training_shares_is_not_prepared_for_starts(tmp_path: Path, sandbox: Sandbox, cached: bool, sheets: list[str]) -> None:
    asked = subject(tmp_path)
    asked = replace(asked, calibration=asked.inputs)
    steps = (PassStep(name="distillation"), PassStep(name="static_int8", params={"activation": "uint8"}))
    recipe = Recipe(backend="onnxruntime", settings=BackendSettings(threads=1, cached=cached), passes=steps)
    cache = BuildCache(tmp_path / "builds")
    (tmp_path / "student").mkdir()
    student = mlp(tmp_path / "student" / "model.onnx")
    cache.store(
        key_of(replace(recipe, passes=steps[:1]), asked), produced=student.parent, entry=student.name, card=inspect_model(student),
        facts=[{"pass": "distillation"}],
    )  # fmt: skip
    build = materialise(recipe, subject=asked, cache=cache, sandbox=sandbox)
    assert [sheet["pass"] for sheet in build.facts] == sheets
    assert (build.folder / "start-cache").is_dir() is cached
