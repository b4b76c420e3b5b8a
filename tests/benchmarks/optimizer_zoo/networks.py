"""Our own networks: trained from a seed for real, in minutes on two cores, and written as ONNX. Torch is imported inside functions only.

A torch form is called with the path of its exhibit's model and returns the module in eval mode and the order of its inputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.ort import load_onnxruntime
from tests.benchmarks.optimizer_zoo import clumsy_graph, images, scenes

Array = np.ndarray[Any, Any]
TorchForm = tuple[Any, tuple[str, ...]]

MODEL, WEIGHTS, FACTS = "model.onnx", "weights.pt", "facts.json"
OPSET = 17
LEAST_DIGITS, LEAST_CLUMSY, LEAST_DETECTOR = 0.97, 0.95, 0.85

DIGITS_HELD_OUT, MNIST_HELD_OUT, MNIST_SHOWN = 800, 1_000, 1_200
CLUMSY_SIDE, DETECTOR_SIDE, DETECTOR_SCENES = 112, 256, 800
ROUNDING = 1e-4
"""Largest difference between an ONNX file and its module, as a share of the largest output."""


def digits_resnet(model: Path) -> TorchForm:
    from tests.benchmarks.optimizer_zoo.modules import DigitsResNet

    return _restored(DigitsResNet(), model), ("image",)


def mnist_cnn(model: Path) -> TorchForm:
    from tests.benchmarks.optimizer_zoo.modules import MnistCnn

    return _restored(MnistCnn(), model), ("image",)


def clumsy_resnet(model: Path) -> TorchForm:
    from tests.benchmarks.optimizer_zoo.modules import ThinResNet50

    return _restored(ThinResNet50(), model), ("image",)


def detector(model: Path) -> TorchForm:
    from tests.benchmarks.optimizer_zoo.modules import Detector

    return _restored(Detector(len(scenes.KINDS)), model), ("images",)


def sentence_encoder(model: Path) -> TorchForm:
    """The library's own encoder; it answers with a table of outputs instead of a tensor."""
    from optimizer.torch_models import load_encoder

    described, module = load_encoder(model / "config.json")
    return module, tuple(tensor.name for tensor in described.inputs)


def build_mnist_cnn(folder: Path, *, weights: Path, csv_gz: Path) -> dict[str, Array]:
    """A network that others trained; the inputs are handwritten digits."""
    import torch

    from tests.benchmarks.optimizer_zoo import training
    from tests.benchmarks.optimizer_zoo.modules import MnistCnn

    module = MnistCnn()
    module.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    digits, labels = images.mnist(csv_gz)
    pictures = ((digits[:MNIST_SHOWN, None, None] / 255 - images.MNIST_MEAN) / images.MNIST_DEVIATION).astype(np.float32)
    inputs = {"image": pictures, "label": labels[:MNIST_SHOWN]}
    _keep(module.eval(), folder, accuracy=training.accuracy(module, inputs["image"], inputs["label"]), least=LEAST_DIGITS)
    export(module, folder / MODEL, {"image": inputs["image"][0]}, output="scores")
    return inputs


def build_digits_resnet(folder: Path) -> dict[str, Array]:
    """Train on 997 of scikit-learn's digits; the other 800 are the inputs."""
    from sklearn.datasets import load_digits

    from tests.benchmarks.optimizer_zoo import training
    from tests.benchmarks.optimizer_zoo.modules import DigitsResNet

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    pictures, labels = (found.images[order, None] / 16).astype(np.float32), found.target[order].astype(np.int64)
    module = _seeded(DigitsResNet)
    batches = training.digit_batches(pictures[DIGITS_HELD_OUT:], labels[DIGITS_HELD_OUT:], size=64)
    training.fit(module, batches, training.class_loss, steps=600, rate=5e-3)
    inputs = {"image": pictures[:DIGITS_HELD_OUT, None], "label": labels[:DIGITS_HELD_OUT]}
    _keep(module, folder, accuracy=training.accuracy(module, inputs["image"], inputs["label"]), least=LEAST_DIGITS)
    export(module, folder / MODEL, {"image": inputs["image"][0]}, output="scores")
    return inputs


def build_clumsy_resnet(folder: Path, csv_gz: Path) -> dict[str, Array]:
    """Train on 4,000 handwritten digits, pasted on photographs; the other 1,000 are the inputs, pasted once.

    Pictures are small at first, which costs a third.
    """
    from tests.benchmarks.optimizer_zoo import training
    from tests.benchmarks.optimizer_zoo.modules import ThinResNet50

    digits, labels = images.mnist(csv_gz)
    module = _seeded(ThinResNet50)
    for side, steps, rate in ((CLUMSY_SIDE * 4 // 7, 1_200, 3e-3), (CLUMSY_SIDE, 600, 2e-3)):
        batches = training.pasted_batches(digits[MNIST_HELD_OUT:], labels[MNIST_HELD_OUT:], side=side, size=32)
        training.fit(module, batches, training.class_loss, steps=steps, rate=rate)
    rngs = [np.random.default_rng([3, number]) for number in range(MNIST_HELD_OUT)]
    pasted = np.stack([images.pasted(digits[number], CLUMSY_SIDE, rng=rng) for number, rng in enumerate(rngs)])
    inputs = {"image": pasted[:, None], "label": labels[:MNIST_HELD_OUT]}
    _keep(module, folder, accuracy=training.accuracy(module, inputs["image"], inputs["label"]), least=LEAST_CLUMSY)
    clumsy_graph.write_clumsy(module, folder / MODEL, side=CLUMSY_SIDE)
    _require_equal(module, folder / MODEL, {"image": inputs["image"][0]})
    return inputs


def build_detector(folder: Path) -> dict[str, Array]:
    """Train on small scenes, then on full ones; the inputs are scenes of another seed.

    A small scene shows shapes of the same size on a smaller canvas: most of training costs a third.
    """
    from tests.benchmarks.optimizer_zoo import training
    from tests.benchmarks.optimizer_zoo.modules import Detector

    module = _seeded(lambda: Detector(len(scenes.KINDS)))
    for side, steps, rate in ((160, 1_200, 2e-3), (DETECTOR_SIDE, 150, 5e-4)):
        training.fit(module, training.scene_batches(side=side, size=16, seed=side), training.detection_loss, steps=steps, rate=rate)
    held_out = [scenes.scene(DETECTOR_SIDE, rng=np.random.default_rng([5, number])) for number in range(DETECTOR_SCENES)]
    _keep(module, folder, f1=training.detection_f1(module, held_out[:300]), least=LEAST_DETECTOR)
    inputs = {"images": np.stack([one.pixels for one in held_out])[:, None]}
    export(module, folder / MODEL, {"images": inputs["images"][0]}, output="output0")
    return inputs


def export(module: Any, path: Path, example: dict[str, Array], *, output: str) -> None:
    """Write ``module`` with the fixed shapes of ``example`` and check the file against it."""
    import torch

    from optimizer.torch_models import calm

    with calm():
        torch.onnx.export(
            module, tuple(torch.from_numpy(value) for value in example.values()), str(path), input_names=list(example),
            output_names=[output], opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    _require_equal(module, path, example)


def _require_equal(module: Any, path: Path, example: dict[str, Array]) -> None:
    """Raises ValueError where file and module differ by more than rounding."""
    import torch

    session = load_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        wanted = module(*(torch.from_numpy(value) for value in example.values())).numpy()
    off = np.abs(session.run(None, example)[0] - wanted).max() / np.abs(wanted).max()
    if not off <= ROUNDING:
        raise ValueError(f"{path} differs from the module it was made of by {off:.2g}")


def _seeded(make: Callable[[], Any]) -> Any:
    import torch

    torch.manual_seed(0)
    return make()


def _keep(module: Any, folder: Path, *, least: float, **quality: float) -> None:
    """Store weights and quality. Raises ValueError for a network that has not learned its task."""
    import torch

    (value,) = quality.values()
    if value < least:
        raise ValueError(f"{folder.name} reaches {value:.3f}, not {least}")
    torch.save(module.state_dict(), folder / WEIGHTS)
    (folder / FACTS).write_text(json.dumps(quality))


def _restored(module: Any, model: Path) -> Any:
    import torch

    module.load_state_dict(torch.load(model.parent / WEIGHTS, weights_only=True))
    return module.eval()
