"""Models that carry state: their examples run as streams, in which each step's state feeds the next (measurement.md 9)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizer.specs import ModelCard, TensorSpec

Array = np.ndarray[Any, Any]
StatePairs = tuple[tuple[str, str], ...]

STREAM_STEPS = 32
"""Long enough for errors to gather, about a second of speech; short enough that a few minutes give streams by the hundred."""

FEWEST_STREAMS = 3
"""One each for calibration, search and the sealed check."""


def fed_back(card: ModelCard) -> StatePairs:
    """Pairs (input, output) of state whose size stays; a cache that grows with every step cannot be fed to bound shapes."""
    inputs, outputs = ({one.name: one for one in tensors} for tensors in (card.inputs, card.outputs))
    return tuple(
        (source, target)
        for source, target in card.state_pairs
        if source in inputs and target in outputs and not _grows(inputs[source], outputs[target])
    )


def _grows(source: TensorSpec, target: TensorSpec) -> bool:
    """Whether an output's dim is declared as a sum or a total where the input has a symbol of its own."""
    dims = zip(source.shape, target.shape, strict=False)
    return any(isinstance(one, str) and isinstance(other, str) and one != other and _is_sum(other) for one, other in dims)


def _is_sum(dim: str) -> bool:
    return "+" in dim or "total" in dim.lower()


def stream_steps(card: ModelCard, n: int) -> int:
    """Steps of a stream made of ``n`` examples; 1 for a model without state."""
    return max(1, min(STREAM_STEPS, n // FEWEST_STREAMS)) if fed_back(card) else 1


def examples_per_unit(card: ModelCard) -> int:
    """How many examples one independent piece of evidence takes, when there are plenty."""
    return STREAM_STEPS if fed_back(card) else 1


def stream_digests(digests: Sequence[str], steps: int) -> list[str]:
    """One digest per whole stream of consecutive examples; a shorter rest is left out."""
    whole = len(digests) // steps
    return [hashlib.sha256("".join(digests[i * steps : (i + 1) * steps]).encode()).hexdigest() for i in range(whole)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """How outputs were made: so many steps a stream, these outputs (by index) fed back as state."""

    steps: int
    states: frozenset[int]


class Carried:
    """The state of one model: its own outputs become its next inputs, until a new stream begins with the example's own."""

    def __init__(self, pairs: Sequence[tuple[str, str]], *, outputs: Sequence[str], steps: int) -> None:
        self._places = [(source, outputs.index(target)) for source, target in pairs if target in outputs]
        self._steps = steps
        self._step = 0
        self._state: dict[str, Array] = {}

    def feed(self, example: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs of the next step."""
        if self._step % self._steps == 0:
            self._state = {}
        self._step += 1
        return {**example, **self._state}

    def keep(self, example: Mapping[str, Array], outputs: Sequence[Array]) -> None:
        """Remember the state that a step left; one of another shape than the input's is not fed back."""
        for source, place in self._places:
            wanted, found = example[source], np.asarray(outputs[place])
            if found.shape == wanted.shape:
                self._state[source] = np.ascontiguousarray(found.astype(wanted.dtype))


class StreamOutputs(Sequence[list[Array]]):
    """Stored outputs, stream by stream: output k of a stream is [steps, *shape of output k]. The last stream may be shorter."""

    def __init__(self, outputs: Sequence[Sequence[Array]], steps: int) -> None:
        self._outputs, self._steps = outputs, steps

    def __len__(self) -> int:
        return math.ceil(len(self._outputs) / self._steps)

    def __getitem__(self, stream: Any) -> Any:
        if not 0 <= stream < len(self):
            raise IndexError(stream)
        first = stream * self._steps
        examples = [self._outputs[index] for index in range(first, min(first + self._steps, len(self._outputs)))]
        return [_joined(steps) for steps in zip(*examples, strict=True)]


def _joined(steps: Sequence[Array]) -> Array:
    """[steps, *shape]; outputs whose shape depends on the data, one after the other."""
    if len({one.shape for one in steps}) == 1:
        return np.stack(steps)
    return np.concatenate([one.ravel() for one in steps])
