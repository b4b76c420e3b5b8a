"""Real bundles of tiny models: samples from a child, a record of made-up but plausible starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from optimizer.backends import backend
from optimizer.backends.start_cache import FOLDER
from optimizer.export import BundleContent, write_bundle
from optimizer.export.contents import Recorded
from optimizer.export.samples import Artifact, make_samples
from optimizer.hardware import probe
from optimizer.measure.environment import environment_fingerprint
from optimizer.measure.input_files import write_arrays
from optimizer.measure.inputs import InputSet
from optimizer.sandbox import Level, Sandbox
from optimizer.specs import BackendSettings, InputSource, Recipe
from tests.samples import mlp

PLAIN = Recipe(backend="onnxruntime", settings=BackendSettings(threads=1, spinning=False))
COMPILED = Recipe(backend="openvino", settings=BackendSettings(threads=1))
CACHED = BackendSettings(threads=1, cached=True)
PLAIN_CACHED, COMPILED_CACHED = Recipe(backend="onnxruntime", settings=CACHED), Recipe(backend="openvino", settings=CACHED)
IN_BATCHES = BackendSettings(threads=2, streams=2, batch=4)
PLAIN_BATCHES, COMPILED_BATCHES = Recipe(backend="onnxruntime", settings=IN_BATCHES), Recipe(backend="openvino", settings=IN_BATCHES)


def input_set(folder: Path, arrays: dict[str, np.ndarray]) -> InputSet:
    """Examples stacked along the first axis."""
    folder.mkdir(parents=True)
    write_arrays(folder, arrays)
    shapes = {name: tuple(array.shape[1:]) for name, array in arrays.items()}
    count = len(next(iter(arrays.values())))
    return InputSet(folder=folder, source=InputSource.REAL, n=count, digest="tiny", shapes=shapes)


def tiny_content(folder: Path, recipe: Recipe = PLAIN, *, starts_ms: tuple[float, ...] = ()) -> BundleContent:
    """A small network with its true samples; ``starts_ms`` are the recorded medians."""
    model_dir = folder / "model"
    model_dir.mkdir(parents=True)
    mlp(model_dir / "model.onnx", batch=1 if recipe.settings.batch == 1 else "n")
    if recipe.settings.cached:
        (model_dir / FOLDER).mkdir()
        runtime: Any = backend(recipe.backend)
        runtime.prepare(model_dir / "model.onnx", recipe.settings, shapes={"x": (1, 16)}, folder=model_dir / FOLDER)
    inputs = input_set(folder / "inputs", {"x": np.random.default_rng(3).normal(size=(12, 1, 16)).astype(np.float32)})
    with Sandbox(root=folder / "children", level=Level.C) as sandbox:
        samples = make_samples(
            Artifact(folder=model_dir, entry="model.onnx", recipe=recipe),
            inputs=inputs,
            indices=range(12),
            sandbox=sandbox,
            root=folder / "samples",
        )
    hardware = probe(benchmark=False)
    return BundleContent(
        model_dir=model_dir,
        entry="model.onnx",
        recipe=recipe,
        samples=samples,
        shapes=inputs.shapes,
        summary={"decision": "winner"},
        runtimes=hardware.runtimes,
        recorded=Recorded(environment=environment_fingerprint(hardware, "C"), start_latencies_p50_ms=starts_ms, block_s=0.1, margin=0.10),
    )


def tiny_bundle(folder: Path, recipe: Recipe = PLAIN, *, starts_ms: tuple[float, ...] = ()) -> Path:
    """The zip of ``tiny_content``."""
    target = folder / "bundle.zip"
    write_bundle(tiny_content(folder, recipe, starts_ms=starts_ms), target)
    return target
