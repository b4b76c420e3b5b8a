"""What is counted per example when two models' outputs are laid side by side; each example is looked at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optimizer.rounding import agrees_to_rounding, is_float

Array = np.ndarray[Any, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]
BLANK = 0
"""The class that CTC decoders drop."""


@dataclass(slots=True, kw_only=True)
class OutputTally:
    """One output: cosine, signal and noise energy per example; for whole numbers and text, whether they are equal.

    Not ``comparable`` value by value where the models found different numbers of boxes.
    """

    index: int
    cosines: list[float] = field(default_factory=list)
    signals: list[float] = field(default_factory=list)
    noises: list[float] = field(default_factory=list)
    equal: list[bool] = field(default_factory=list)
    largest: float = 0.0
    is_float: bool = True
    invariant: bool = True
    comparable: bool = True

    def add(self, reference: Array, candidate: Array) -> None:
        self.is_float = is_float(reference)
        self.invariant = self.invariant and agrees_to_rounding(reference, candidate)
        self.equal.append(bool(np.array_equal(reference, candidate)))
        self.comparable = self.comparable and reference.shape == candidate.shape
        if self.is_float and self.comparable:
            self._add_floats(reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel())

    def _add_floats(self, reference: Floats, candidate: Floats) -> None:
        self.cosines.append(cosine(reference, candidate))
        self.signals.append(float(reference @ reference))
        difference = reference - candidate
        self.noises.append(float(difference @ difference))
        self.largest = max(self.largest, float(np.abs(difference).max(initial=0.0)))


def cosine(reference: Floats, candidate: Floats) -> float:
    """Cosine of two vectors; two zero vectors agree (1), a zero vector and another do not (0)."""
    if np.array_equal(reference, candidate):
        return 1.0
    lengths = float(np.linalg.norm(reference)), float(np.linalg.norm(candidate))
    return float(np.clip((reference / lengths[0]) @ (candidate / lengths[1]), -1.0, 1.0)) if all(lengths) else 0.0


@dataclass(slots=True, kw_only=True)
class TopClasses:
    """Top class of every row of a score output [..., classes]; a single score per row is split at its sign."""

    reference: list[Array] = field(default_factory=list)
    candidate: list[Array] = field(default_factory=list)

    def add(self, reference: Array, candidate: Array) -> None:
        self.reference.append(top_classes(reference))
        self.candidate.append(top_classes(candidate))


def top_classes(scores: Array) -> Array:
    """Index of the largest score per row, flattened."""
    return np.asarray(np.argmax(scores.astype(np.float64), axis=-1)).ravel()


@dataclass(slots=True, kw_only=True)
class Vectors:
    """One vector per row: [rows, width] as it is, [rows, steps, width] averaged over the steps."""

    reference: list[Array] = field(default_factory=list)
    candidate: list[Array] = field(default_factory=list)

    def add(self, reference: Array, candidate: Array) -> None:
        self.reference.append(pooled(reference))
        self.candidate.append(pooled(candidate))


def pooled(output: Array) -> Floats:
    """Float64 vectors [rows, width]."""
    exact = output.astype(np.float64)
    if exact.ndim < 2:
        return exact.reshape(1, -1)
    return np.asarray(exact.reshape(exact.shape[0], -1, exact.shape[-1]).mean(axis=1))


@dataclass(slots=True, kw_only=True)
class Sequences:
    """Score outputs [rows, steps, classes] decoded greedily: steps, characters and edits per example, equal strings per row."""

    steps_agreed: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    characters: list[int] = field(default_factory=list)
    edits: list[int] = field(default_factory=list)
    exact: list[bool] = field(default_factory=list)

    def add(self, reference: Array, candidate: Array) -> None:
        ours, theirs = np.argmax(reference, axis=-1), np.argmax(candidate, axis=-1)
        self.steps_agreed.append(int((ours == theirs).sum()))
        self.steps.append(int(ours.size))
        rows = zip(ours.reshape(-1, ours.shape[-1]), theirs.reshape(-1, theirs.shape[-1]), strict=True)
        strings = [(decode(one), decode(other)) for one, other in rows]
        self.characters.append(sum(len(one) for one, _ in strings))
        self.edits.append(sum(edit_distance(one, other) for one, other in strings))
        self.exact += [one == other for one, other in strings]


def decode(classes: Array) -> list[int]:
    """Greedy CTC decoding: repeats collapse, blanks go."""
    changed = np.concatenate([[True], classes[1:] != classes[:-1]]) if classes.size else np.zeros(0, bool)
    return [int(one) for one in classes[changed] if one != BLANK]


def edit_distance(first: list[int], second: list[int]) -> int:
    """Fewest insertions, deletions and replacements that turn one string into the other (Levenshtein 1966)."""
    if first == second:
        return 0
    target, places = np.asarray(second, np.int64), np.arange(len(second) + 1)
    row = places
    for number, character in enumerate(first, start=1):
        kept_or_deleted = np.minimum(row[:-1] + (target != character), row[1:] + 1)
        without_insertions = np.concatenate([[number], kept_or_deleted])
        row = np.minimum.accumulate(without_insertions - places) + places
    return int(row[-1])
