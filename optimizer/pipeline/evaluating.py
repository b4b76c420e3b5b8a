"""The evaluator that passes get inside the build child: runs forms of the model and compares them with the untouched original."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.backends import backend
from optimizer.backends.base import Feeds, Session
from optimizer.errors import EngineError
from optimizer.measure.fidelity import FidelityResult, compare_outputs
from optimizer.measure.fidelity_outputs import FILE_NAME, OutputWriter, StoredOutputs
from optimizer.measure.foresight import limits_missed
from optimizer.passes.evaluator import Judged
from optimizer.rounding import is_float
from optimizer.specs import BackendSettings, ExecutedNode, InputSource, KpiTarget, Recipe, TaskKind

PROFILED_RUNS = 5
TIMED_TURNS, TURN_S, LEAST_CALLS = 10, 0.06, 3
"""Turns that count, after one that warms up; seconds and calls of a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """What forms are held to: Trial 0's recipe, the task with its limits, and how many sealed examples will judge."""

    reference: Recipe
    task: TaskKind
    targets: tuple[KpiTarget, ...] = ()
    sealed_examples: int = 0


@dataclass(slots=True, kw_only=True)
class ModelEvaluator:
    """``source`` is the untouched model, ``runtime`` the backend of its forms, ``feeds`` the examples in order; outputs lie on disk
    below ``work_dir``.
    """

    source: Path
    runtime: str
    yardstick: Yardstick
    feeds: Sequence[Feeds]
    shapes: dict[str, tuple[int, ...]]
    work_dir: Path
    _reference: Path | None = field(default=None)

    @property
    def examples(self) -> int:
        return len(self.feeds)

    def nodes(self, entry: Path, settings: BackendSettings) -> tuple[ExecutedNode, ...]:
        """Executed nodes with the least time of a few calls each."""
        profiled = replace(settings, extra={**settings.extra, "PERF_COUNT": "YES"})
        session: Any = backend(self.runtime).open(entry, profiled, shapes=self.shapes or None)
        least: dict[str, ExecutedNode] = {}
        for number in range(PROFILED_RUNS):
            session.run(self.feeds[number % self.examples])
            for node in session.nodes():
                known = least.get(node.name)
                if known is None or (node.time_us or math.inf) < (known.time_us or math.inf):
                    least[node.name] = node
        session.close()
        return tuple(least.values())

    def seconds(self, forms: Sequence[tuple[Path, BackendSettings]]) -> list[float]:
        """Median over turns of the median call; the order of each turn is that of the one before turned round."""
        sessions = [backend(self.runtime).open(entry, settings, shapes=self.shapes or None) for entry, settings in forms]
        found: list[list[float]] = [[] for _ in sessions]
        for turn in range(1 + TIMED_TURNS):
            numbered = list(enumerate(sessions))
            for index, session in numbered if turn % 2 else reversed(numbered):
                found[index].append(self._turn_s(session))
        for session in sessions:
            session.close()
        return [float(np.median(one[1:])) for one in found]

    def _turn_s(self, session: Session) -> float:
        durations_s: list[float] = []
        while len(durations_s) < LEAST_CALLS or sum(durations_s) < TURN_S:
            begin = time.perf_counter()
            session.run(self.feeds[len(durations_s) % self.examples])
            durations_s.append(time.perf_counter() - begin)
        return float(np.median(durations_s))

    def noise(self, entry: Path, settings: BackendSettings, *, examples: int) -> float:
        with self._outputs(entry, settings, examples=examples) as theirs, StoredOutputs(self._reference_file()) as ours:
            return noise_power((ours[index], theirs[index]) for index in range(len(theirs)))

    def judge(self, entry: Path, settings: BackendSettings) -> Judged:
        with self._outputs(entry, settings, examples=self.examples) as theirs, StoredOutputs(self._reference_file()) as ours:
            try:
                found = compare_outputs(self.yardstick.task, ours, theirs, targets=self.yardstick.targets, source=InputSource.REAL)
            except EngineError as error:
                return Judged(holds=False, reason=error.message)
        return judged(found, examples=self.examples, sealed=self.yardstick.sealed_examples)

    def _outputs(self, entry: Path, settings: BackendSettings, *, examples: int) -> StoredOutputs:
        return StoredOutputs(self._run(entry, self.runtime, settings, self.feeds[:examples], name=FILE_NAME))

    def _reference_file(self) -> Path:
        if self._reference is None:
            recipe = self.yardstick.reference
            self._reference = self._run(self.source, recipe.backend, recipe.settings, self.feeds, name=f"reference-{FILE_NAME}")
        return self._reference

    def _run(self, entry: Path, name_of_backend: str, settings: BackendSettings, feeds: Sequence[Feeds], *, name: str) -> Path:
        self.work_dir.mkdir(parents=True, exist_ok=True)
        session = backend(name_of_backend).open(entry, settings, shapes=self.shapes or None)
        with OutputWriter(self.work_dir / name) as writer:
            for feed in feeds:
                writer.add(session.run(feed))
        session.close()
        return self.work_dir / name


def noise_power(pairs: Iterable[tuple[Sequence[np.ndarray[Any, Any]], Sequence[np.ndarray[Any, Any]]]]) -> float:
    """Median over examples of noise over signal power, summed over float outputs; infinite for NaN, infinity or another shape.

    The median: a few examples in which a decision flips carry nearly all noise of a mean, and which they are is chance.
    """
    powers = [_example_noise(ours, theirs) for ours, theirs in pairs]
    found = float(np.median(powers)) if powers else 0.0
    return found if all(math.isfinite(one) for one in powers) else math.inf


def _example_noise(ours: Sequence[np.ndarray[Any, Any]], theirs: Sequence[np.ndarray[Any, Any]]) -> float:
    total = 0.0
    for one, other in zip(ours, theirs, strict=True):
        if not is_float(one):
            continue
        if one.shape != other.shape:
            return math.inf
        exact = one.astype(np.float64)
        signal, noise = float((exact**2).sum()), float(((exact - other.astype(np.float64)) ** 2).sum())
        total += noise / signal if signal else noise
    return total if math.isfinite(total) else math.inf


def judged(found: FidelityResult, *, examples: int, sealed: int) -> Judged:
    """Whether each limit would be proven on ``sealed`` examples that agree as well as these ``examples`` did."""
    if found.code:
        return Judged(holds=False, reason=found.reason)
    measured = {one.kpi: one for one in found.measurements}
    values = {name: one.value for name in found.limits if (one := measured.get(name)) and one.value is not None}
    missed = limits_missed(found.measurements, found.limits, growth=sealed / max(1, examples))
    return Judged(holds=not missed, reason=found.reason, values=values)
