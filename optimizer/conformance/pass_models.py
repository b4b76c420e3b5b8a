"""Cards, hosts, example folders and models to try passes on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from optimizer.backends import Available, backend
from optimizer.conformance import tiny_models
from optimizer.formats import inspect_model
from optimizer.hardware.probing import runtime_versions
from optimizer.passes.base import PassContext
from optimizer.specs import BackendSettings, HardwareProfile

Feeds = dict[str, np.ndarray[Any, Any]]
HOST = HardwareProfile(
    os="linux",
    os_version="12",
    architecture="x86_64",
    kernel="6",
    cpu_model="test",
    cores=2,
    memory_bytes=1 << 33,
    dot_int8=True,
    runtimes={"nncf": "3.4.0", **runtime_versions()},
)
AVAILABLE = Available(version="1")
TOKENS = 24


def context_for(
    model: Path, feeds: list[Feeds], work_dir: Path, *, with_examples: bool = True, hardware: HardwareProfile = HOST
) -> PassContext:
    """The context a child would build: card, bound shapes, and an InputSet folder holding ``feeds``."""
    shapes = {name: array.shape for name, array in feeds[0].items()}
    return PassContext(
        card=inspect_model(model),
        hardware=hardware,
        work_dir=work_dir,
        shapes=shapes,
        calibration=examples_folder(work_dir.parent / "inputs", feeds) if with_examples else None,
    )


def examples_folder(folder: Path, feeds: list[Feeds]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    stacked: dict[str, Any] = {name: np.stack([feed[name] for feed in feeds]) for name in feeds[0]}
    np.savez(folder / "inputs.npz", **stacked)
    return folder


def normal_feeds(name: str, shape: tuple[int, ...], *, count: int = 8) -> list[Feeds]:
    rng = np.random.default_rng(5)
    return [{name: rng.normal(size=shape).astype(np.float32)} for _ in range(count)]


def sentence_feeds(*, count: int = 6, length: int = TOKENS, width: int = 29_000) -> list[Feeds]:
    """Token ids as a tokenizer would give them: real words first, padding after, masked out."""
    rng = np.random.default_rng(7)
    feeds = []
    for _ in range(count):
        used = int(rng.integers(length // 2, length))
        ids, mask = np.zeros((1, length), np.int64), np.zeros((1, length), np.int64)
        ids[0, :used], mask[0, :used] = rng.integers(1000, width, used), 1
        feeds.append({"input_ids": ids, "attention_mask": mask})
    return feeds


def outputs_of(model: Path, feeds: list[Feeds], *, name: str = "onnxruntime") -> list[list[np.ndarray[Any, Any]]]:
    shapes = {key: array.shape for key, array in feeds[0].items()}
    session = backend(name).open(model, BackendSettings(threads=2), shapes=shapes)
    return [session.run(feed) for feed in feeds]


def folder_digest(folder: Path) -> str:
    """Digest of every file below ``folder`` with its name and time of change."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        digest.update(f"{file.relative_to(folder)} {file.stat().st_mtime_ns}".encode() + (file.read_bytes() if file.is_file() else b""))
    return digest.hexdigest()


def untidy(path: Path) -> Path:
    """A matrix product between redundant nodes: something for every cleaner."""
    nodes = [
        helper.make_node("Constant", [], ["a"], value=tiny_models.weights("a", [8, 8], seed=1)),
        helper.make_node("Constant", [], ["b"], value=tiny_models.weights("b", [8, 8], seed=2)),
        helper.make_node("Add", ["a", "b"], ["w"]),
        helper.make_node("Identity", ["x"], ["x1"]),
        helper.make_node("MatMul", ["x1", "w"], ["h"]),
        helper.make_node("Identity", ["h"], ["h1"]),
        helper.make_node("Relu", ["h1"], ["r"]),
        helper.make_node("MatMul", ["r", "a"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "untidy", [tiny_models.value("x", ["batch", 8])], [tiny_models.value("y", ["batch", 8])])
    return tiny_models.save(graph, path)


def biased(path: Path) -> Path:
    """A matrix product whose bias is added beside it."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    constants = [tiny_models.weights("w", [8, 8], seed=1), tiny_models.weights("b", [8], seed=2)]
    inputs, outputs = [tiny_models.value("x", ["batch", 8])], [tiny_models.value("y", ["batch", 8])]
    return tiny_models.save(helper.make_graph(nodes, "biased", inputs, outputs, constants), path)


def old_conv(path: Path) -> Path:
    """The convolution of opset 11, below what per-channel scales need."""
    tiny_models.conv(path)
    model = onnx.load(path)
    model.opset_import[0].version = 11
    onnx.save(model, path)
    return path
