"""Which layers must stay exact so that the rest of a network may run in reduced precision. Needs an evaluator, no runtime.

Random halves of the layers find each one's noise, profiles in both precisions what it saves; a bisection along the resulting
curve, judged by the task's own fidelity, finds the fewest exact layers. One evaluation per layer is never needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.evaluator import Evaluator, Judged
from optimizer.passes.sensitivity import Floats, contributions, fewest, half_subsets, keep_order
from optimizer.specs import BackendSettings, ExecutedNode

NOISE_EXAMPLES = 24
PAIRS = 16
SECONDS = 75.0
BISECTION_SHARE = 0.5
"""Of the time, at most this goes to the runs with random halves; the bisection needs the rest."""
REPORTED = 50
VISITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is switched as one: a node of the runtime with the layers it stands for. ``saved_us``: exact time minus reduced time."""

    kind: str
    layers: tuple[str, ...]
    saved_us: float


@dataclass(slots=True, kw_only=True)
class LayerSearch:
    """One search. ``form`` writes the model with these layers exact; ``settings`` run such forms.

    ``reduced`` and ``exact`` are the names of the two precisions, as sentences use them.
    """

    evaluator: Evaluator
    parts: Sequence[Part]
    form: Callable[[Collection[str]], Path]
    settings: BackendSettings
    reduced: str
    exact: str
    deadline_s: float
    noise: Floats = field(default_factory=lambda: np.zeros(0))
    runs: int = 0

    def plain(self) -> Judged:
        """The form with every layer reduced."""
        return self._judge([])

    def find(self, plain: Judged) -> tuple[list[Part], Judged]:
        """The parts to keep exact, given that the ``plain`` form does not hold.

        Raises ``pass.no_change`` when all would have to be, ``pass.failed`` when none can be or not even all are enough.
        """
        if not self.parts:
            raise PassFailed(f"The runtime names no layer that it computes in {self.reduced}, so none can be kept in {self.exact}.")
        self.noise = self._measure_noise()
        order = keep_order(self.noise, np.array([part.saved_us for part in self.parts]))
        answers: dict[int, Judged] = {0: plain}

        def holds(count: int) -> bool:
            if count not in answers:
                answers[count] = self._judge([self.parts[index] for index in order[:count]])
            return answers[count].holds

        count = fewest(holds, len(order), may_ask=lambda: time.monotonic() < self.deadline_s)
        if count is None:
            raise PassFailed(
                f"Even with all {len(order)} layers that can be kept in {self.exact}, {answers[len(order)].reason[:1].lower()}"
                f"{answers[len(order)].reason[1:]}"
            )
        if count == len(order):
            late = time.monotonic() >= self.deadline_s
            raise NoChange(
                "The time ended before fewer exact layers were found." if late else f"Every layer would have to stay in {self.exact}."
            )
        return [self.parts[index] for index in order[:count]], answers[count]

    def facts(self, kept: Sequence[Part], judged: Judged) -> dict[str, Any]:
        """How many layers stay exact and which; the layers that make the most noise, with the time that reducing each saves."""
        total = float(self.noise.sum()) or 1.0
        ranked = sorted(zip(self.noise, self.parts, strict=False), key=lambda pair: -pair[0])[:REPORTED]
        return {
            "parts": len(self.parts),
            "parts_exact": len(kept),
            "layers_exact": [layer for part in kept for layer in part.layers][:REPORTED],
            "fidelity": judged.values,
            "runs": self.runs,
            "sensitivity": [
                {"layer": part.layers[0], "kind": part.kind, "noise_share": round(float(noise) / total, 4), "saved_us": part.saved_us}
                for noise, part in ranked
            ],
        }

    def _form(self, kept: Sequence[Part]) -> Path:
        return self.form({layer for part in kept for layer in part.layers})

    def _judge(self, kept: Sequence[Part]) -> Judged:
        self.runs += 1
        return self.evaluator.judge(self._form(kept), self.settings)

    def _measure_noise(self) -> Floats:
        """Noise shares from random halves, as many as the time allows."""
        reduced = half_subsets(len(self.parts), pairs=PAIRS, seed=1)
        ends_s = time.monotonic() + BISECTION_SHARE * max(0.0, self.deadline_s - time.monotonic())
        powers: list[float] = []
        for row in reduced:
            if len(powers) >= 2 and time.monotonic() > ends_s:
                break
            kept = [part for part, is_reduced in zip(self.parts, row, strict=True) if not is_reduced]
            self.runs += 1
            powers.append(self.evaluator.noise(self._form(kept), self.settings, examples=NOISE_EXAMPLES))
        return contributions(reduced[: len(powers)], powers)


def parts_of(
    reduced: Sequence[ExecutedNode], exact: Sequence[ExecutedNode], *, precisions: Collection[str], switchable: Collection[str]
) -> list[Part]:
    """Nodes that run in one of these ``precisions`` in the ``reduced`` form and have ``switchable`` layers, with what each saves."""
    spent: dict[str, float] = {layer: node.time_us or 0.0 for node in exact for layer in node.layers}
    found = []
    for node in reduced:
        layers = tuple(layer for layer in node.layers if layer in switchable)
        if node.precision in precisions and layers:
            exact_us = max((spent.get(layer, 0.0) for layer in node.layers), default=0.0)
            found.append(Part(kind=node.kind, layers=layers, saved_us=round(max(0.0, exact_us - (node.time_us or 0.0)), 1)))
    return found


def segments(parts: Sequence[Part], *, count: int) -> list[Part]:
    """Neighbours in order of execution joined into about ``count`` parts of equal saving: values stay exact only between exact layers."""
    share = sum(part.saved_us for part in parts) / count
    found: list[list[Part]] = []
    passed = 0.0
    for part in parts:
        if not found or passed >= share * len(found):
            found.append([])
        found[-1].append(part)
        passed += part.saved_us
    return [_joined(group) for group in found]


def _joined(group: Sequence[Part]) -> Part:
    kinds = tuple(dict.fromkeys(part.kind for part in group))
    layers = tuple(layer for part in group for layer in part.layers)
    return Part(kind=", ".join(kinds), layers=layers, saved_us=round(sum(part.saved_us for part in group), 1))


def profiles(evaluator: Evaluator, forms: Sequence[tuple[Path, BackendSettings]]) -> list[tuple[ExecutedNode, ...]]:
    """Executed nodes of each form with their least times over ``VISITS`` in turns: what the host does meanwhile meets all alike."""
    least: list[dict[str, ExecutedNode]] = [{} for _ in forms]
    for _ in range(VISITS):
        for known, (entry, settings) in zip(least, forms, strict=True):
            for node in evaluator.nodes(entry, settings):
                if node.name not in known or (node.time_us or 0.0) < (known[node.name].time_us or 0.0):
                    known[node.name] = node
    return [tuple(known.values()) for known in least]
