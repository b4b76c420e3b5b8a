"""Weights with declared layers, as an upload: read in the child, converted, compared with PyTorch, searched; refused precisely."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.cli import run
from optimizer.codec import from_jsonable
from optimizer.errors import InputError
from optimizer.formats import inspect_model, prepare
from optimizer.result_folder import ResultFolder
from optimizer.sandbox import ChildJob, ChildOutcome, Level, Sandbox
from optimizer.sandbox.levels import is_installed
from optimizer.specs import ModelCard, Stage, StageStatus
from tests import folders, samples

INGEST = "optimizer.formats.child:ingest_model"
MNIST: dict[str, Any] = {
    "input": {"name": "image", "shape": ["batch", 1, 28, 28]},
    "output": "scores",
    "layers": [
        {"type": "Conv2d", "name": "features.0", "in_channels": 1, "out_channels": 32, "kernel_size": 3, "padding": 1},
        {"type": "ReLU"},
        {"type": "MaxPool2d", "kernel_size": 2},
        {"type": "Conv2d", "name": "features.3", "in_channels": 32, "out_channels": 64, "kernel_size": [3, 3], "padding": 1},
        {"type": "BatchNorm2d", "name": "norm", "num_features": 64},
        {"type": "ReLU"},
        {"type": "MaxPool2d", "kernel_size": 2},
        {"type": "Flatten"},
        {"type": "Dropout", "p": 0.5},
        {"type": "Linear", "name": "classifier.0", "in_features": 3136, "out_features": 10},
    ],
}


def weights(seed: int = 0) -> dict[str, Any]:
    """A state dict for the layers above, under the names that a model class gave them."""
    import torch

    torch.manual_seed(seed)
    parts = {
        "features.0": torch.nn.Conv2d(1, 32, 3, padding=1),
        "features.3": torch.nn.Conv2d(32, 64, 3, padding=1),
        "norm": torch.nn.BatchNorm2d(64),
        "classifier.0": torch.nn.Linear(3136, 10),
    }
    parts["norm"].running_mean.normal_()
    return {f"{place}.{name}": value for place, part in parts.items() for name, value in part.state_dict().items()}


def declared(folder: Path, state: Any, table: dict[str, Any] = MNIST, *, file_name: str = "weights.safetensors") -> Path:
    """A folder with weights and their declaration."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if file_name.endswith(".safetensors"):
        save_file(state, str(folder / file_name))
    else:
        torch.save(state, folder / file_name)
    (folder / "architecture.json").write_text(json.dumps(table))
    return folder


def refused(tmp_path: Path, folder: Path) -> InputError:
    with pytest.raises(InputError) as refusal:
        prepare(folder, tmp_path / "taken", beside=True, unpickle=True)
    assert not list((tmp_path / "taken").glob("*"))
    return refusal.value


def ingested(tmp_path: Path, upload: Path, *, level: Level) -> ChildOutcome:
    with Sandbox(root=tmp_path / "jobs", level=level) as sandbox:
        return sandbox.run(ChildJob(entry=INGEST, params={"beside": upload.is_dir()}, binds={"upload": upload}))


@pytest.mark.parametrize("file_name", ["weights.safetensors", "mnist.pth"])
def test_declared_layers_compute_what_pytorch_computes(tmp_path: Path, file_name: str) -> None:
    import torch
    from torch.nn import functional

    state = weights()
    prepared = prepare(declared(tmp_path / "net", state, file_name=file_name), tmp_path / "taken", beside=True, unpickle=True)
    card = inspect_model(prepared.entry)
    assert (card.format, card.inputs[0].name, card.inputs[0].shape) == ("onnx", "image", ("batch", 1, 28, 28))
    assert (card.outputs[0].name, card.outputs[0].shape) == ("scores", ("batch", 10))
    assert float(card.metadata["largest_difference_to_pytorch"]) < 1e-4
    assert [path.name for path in prepared.entry.parent.iterdir()] == ["model.onnx"]
    image = torch.randn(5, 1, 28, 28)
    hidden = functional.max_pool2d(
        functional.relu(functional.conv2d(image, state["features.0.weight"], state["features.0.bias"], padding=1)), 2
    )
    hidden = functional.conv2d(hidden, state["features.3.weight"], state["features.3.bias"], padding=1)
    hidden = functional.batch_norm(
        hidden, state["norm.running_mean"], state["norm.running_var"], state["norm.weight"], state["norm.bias"], training=False
    )
    hidden = functional.max_pool2d(functional.relu(hidden), 2).flatten(1)
    expected = hidden @ state["classifier.0.weight"].T + state["classifier.0.bias"]
    from optimizer.backends import backend
    from optimizer.specs import BackendSettings

    found = backend("onnxruntime").open(prepared.entry, BackendSettings(threads=1)).run({"image": image.numpy()})[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_a_zip_of_both_is_the_same_model_and_tells_what_was_left_out(tmp_path: Path) -> None:
    folder = declared(tmp_path / "net", weights(), file_name="mnist.pth")
    (folder / "train.py").write_text("raise SystemExit")
    archive = samples.zipped(folder, tmp_path / "net.zip", prefix="net/")
    prepared = prepare(archive, tmp_path / "from_zip", unpickle=True)
    (folder / "train.py").unlink()
    assert inspect_model(prepared.entry).sha256 == inspect_model(prepare(folder, tmp_path / "from_folder", unpickle=True).entry).sha256
    assert "train.py" in prepared.warnings[0]


def test_a_checkpoint_with_a_prefix_is_read_by_its_entry(tmp_path: Path) -> None:
    state = {f"module.{name}": value for name, value in weights().items()}
    table = {**MNIST, "prefix": "module.", "within": "model.state"}
    folder = declared(tmp_path / "net", {"epoch": 3, "model": {"state": state}}, table, file_name="last.pt")
    assert inspect_model(prepare(folder, tmp_path / "taken", unpickle=True).entry).metadata["declared_layers"] == "10"


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (lambda state, table: state.pop("norm.bias"), "architecture.missing", "'norm.bias' and 0 more"),
        (lambda state, table: state.update({"head.weight": state["norm.bias"].clone()}), "architecture.unexpected", "'head.weight'"),
        (lambda state, table: table["layers"][-1].update(out_features=11), "architecture.shape", "'classifier.0.weight' has the shape [10, 3136], and its layer declares [11, 3136]"),
        (lambda state, table: table["layers"].pop(2), "architecture.input", "Layer 8 (Linear) does not take [2, 12544]"),
        (lambda state, table: table["layers"][0].pop("name"), "architecture.malformed", 'layer 0 (Conv2d) has weights, so it needs its "name"'),
        (lambda state, table: table["layers"][0].update(groups=3), "architecture.parameter", "Layer 0 (Conv2d) cannot be made"),
        (lambda state, table: table["layers"].append({"type": "Linear", "name": "huge", "in_features": 1 << 24, "out_features": 1 << 24}), "architecture.missing", "'huge.bias'"),
        (lambda state, table: table.update(within="model"), "architecture.malformed", "no entry 'model'"),
    ],
    ids=["missing", "unexpected", "shape", "input", "no name", "parameter", "absurd size", "within"],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], code: str, sentence: str
) -> None:
    state, table = weights(), json.loads(json.dumps(MNIST))
    change(state, table)
    refusal = refused(tmp_path, declared(tmp_path / "net", state, table))
    assert refusal.code == code
    assert sentence in refusal.message


class Evil:
    """What runs when a pickle of it is opened without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def test_a_file_with_more_than_weights_is_not_opened(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = declared(tmp_path / "net", {"features.0.weight": Evil(marker)}, file_name="mnist.pt")
    assert refused(tmp_path, folder).code == "torch.not_weights"
    assert not marker.exists()
    (folder / "mnist.pt").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    assert refused(tmp_path, folder).code == "format.pickle"
    declared(folder, {"lr": 0.1}, file_name="mnist.pt")
    assert refused(tmp_path, folder).code == "torch.not_weights"


@pytest.mark.parametrize("level", [level for level in Level if is_installed(level)])
def test_pickled_weights_are_read_at_level_a_only_and_safetensors_at_every_level(tmp_path: Path, level: Level) -> None:
    plain = ingested(tmp_path / "1", declared(tmp_path / "net", weights()), level=level)
    assert plain.result is not None, plain.failure
    assert from_jsonable(ModelCard, plain.result["card"]).format == "onnx"
    pickled = ingested(tmp_path / "2", declared(tmp_path / "other", weights(), file_name="mnist.pth"), level=level)
    assert (pickled.failure.code if pickled.failure else "") == ("" if level is Level.A else "agent.sandbox_too_weak")


def test_weights_of_a_transformers_architecture_become_a_folder(tmp_path: Path) -> None:
    import torch

    state = {f"encoder.{name}": torch.from_numpy(value) for name, value in folders.bert_weights().items()}
    folder = declared(tmp_path / "net", state, {"transformers": folders.CONFIG, "prefix": "encoder."}, file_name="bert.bin")
    prepared = prepare(folder, tmp_path / "taken", unpickle=True)
    own = folders.encoder(tmp_path / "own")
    assert inspect_model(prepared.entry).parameters == inspect_model(own / "config.json").parameters
    assert sorted(path.name for path in prepared.entry.parent.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.flow
@pytest.mark.skipif(not is_installed(Level.A), reason="pickled weights need sandbox level A")
def test_a_state_dict_with_declared_layers_is_searched_by_one_command(tmp_path: Path) -> None:
    archive = samples.zipped(declared(tmp_path / "net", weights(), file_name="mnist.pth"), tmp_path / "net.zip")
    np.savez(tmp_path / "data.npz", image=np.random.default_rng(0).normal(size=(200, 1, 1, 28, 28)).astype(np.float32))
    out = tmp_path / "out"
    code = run(
        ["search", str(archive), "--inputs", str(tmp_path / "data.npz"), "--budget", "45", "--out", str(out), "--sandbox", "A", "--quiet"]
    )
    assert code in (0, 2)
    result = ResultFolder(root=out)
    measured = [report for report in result.reports() if report.trial == 0 and report.stage is Stage.GATE]
    assert [(report.recipe.backend, report.status) for report in measured] == [("onnxruntime", StageStatus.OK)]
    assert (out / "model" / result.chosen.entry).is_file()
