"""Examples of models that carry state: 32 steps a stream, each with the state that the model itself had then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.measure.streams import STREAM_STEPS
from optimizer.ort import load_onnxruntime
from tests.benchmarks.optimizer_zoo import sounds

Array = np.ndarray[Any, Any]

STREAMS = 96
FRAME, CONTEXT = 512, 64
BLOCK, HOP = 512, 128
DATA, STATE = 0, 1
"""Places of data and state among the inputs, and of the answer and the next state among the outputs, of all models here."""


class Stepper:
    """Runs a model step by step and remembers every input it was given."""

    def __init__(self, model: Path, *, constants: Mapping[str, Array] | None = None) -> None:
        self._session = load_onnxruntime().InferenceSession(str(model), providers=["CPUExecutionProvider"])
        ports = self._session.get_inputs()
        self._data, self._state_name = ports[DATA].name, ports[STATE].name
        self._rest = [size if isinstance(size, int) else 1 for size in ports[STATE].shape]
        self._constants = dict(constants or {})
        self._seen: dict[str, list[Array]] = {}
        self.begin()

    def begin(self) -> None:
        """A new stream starts at rest."""
        self._state = np.zeros(self._rest, np.float32)

    def step(self, data: Array) -> Array:
        """The answer to ``data``; the state goes on to the next step."""
        feeds = {self._data: data, self._state_name: self._state, **self._constants}
        for name, value in feeds.items():
            self._seen.setdefault(name, []).append(value)
        outputs = self._session.run(None, feeds)
        self._state = outputs[STATE]
        return np.asarray(outputs[DATA])

    @property
    def examples(self) -> dict[str, Array]:
        """Everything it was given: one array [steps, *shape] per input."""
        return {name: np.stack(values) for name, values in self._seen.items()}


def voice_detector(model: Path) -> dict[str, Array]:
    """Frames of 576 samples (64 of them of the frame before), in every fourth stream without any voice."""
    stepper = Stepper(model, constants={"sr": np.array(sounds.RATE_HZ, np.int64)})
    for sound in _streams(CONTEXT + STREAM_STEPS * FRAME):
        stepper.begin()
        for start in range(0, STREAM_STEPS * FRAME, FRAME):
            stepper.step(sound[None, start : start + CONTEXT + FRAME])
    return stepper.examples


def denoiser(first: Path, second: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Examples of both stages of DTLN (Westhausen and Meyer 2020): spectra, and the blocks that the first stage has masked."""
    spectral, temporal = Stepper(first), Stepper(second)
    for sound in _streams(BLOCK + (STREAM_STEPS - 1) * HOP):
        spectral.begin()
        temporal.begin()
        for start in range(0, STREAM_STEPS * HOP, HOP):
            spectrum = np.fft.rfft(sound[start : start + BLOCK])
            mask = spectral.step(np.abs(spectrum).astype(np.float32).reshape(1, 1, -1))
            temporal.step(np.fft.irfft(spectrum * mask.ravel()).astype(np.float32).reshape(1, 1, -1))
    return spectral.examples, temporal.examples


def _streams(samples: int) -> Iterable[Array]:
    for number in range(STREAMS):
        make = sounds.noise if number % 4 == 0 else sounds.speech
        yield make(samples, rng=np.random.default_rng([7, number]))
