"""Partial bf16: every layer in bf16 but the few that would break the fidelity gate; those stay in f32."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.evaluator import Evaluator, Judged
from optimizer.passes.openvino_ir import layer_names, write_ir, write_marked
from optimizer.passes.sensitivity import Floats, contributions, fewest, half_subsets, keep_order
from optimizer.specs import (
    BackendSettings,
    ExecutedNode,
    HardwareProfile,
    Json,
    ModelCard,
    PassAccuracy,
    PassNeeds,
    PassScope,
    PassStep,
    Precision,
)

NOISE_EXAMPLES = 24
PAIRS = 16
SECONDS = 75.0
BISECTION_SHARE = 0.5
"""Of the time, at most this goes to the runs with random halves; the bisection needs the rest."""
REPORTED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is switched as one: a node of the runtime with the layers it stands for. ``saved_us``: f32 time minus bf16 time."""

    kind: str
    layers: tuple[str, ...]
    saved_us: float


class PartialPrecision:
    """Random halves find each layer's noise, profiles what it saves; a bisection along the curve finds the fewest exact layers."""

    name = "partial_bf16"
    title = "Partial bf16"
    family = "precision"
    scope = PassScope.HARDWARE_SPECIFIC
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.EVALUATION
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset({"openvino"})
    precisions: frozenset[Precision] = frozenset({Precision.BF16})
    tools: tuple[str, ...] = ("openvino",)

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if not hardware.matrix_bf16:
            return No("this host has no bf16 matrix units, so bf16 saves no time")
        if card.control_flow:
            return No("layers inside branches and loops cannot be kept exact one by one")
        if card.quantized:
            return No("already quantised")
        if card.state_pairs:
            return No("it carries state from call to call, and layers are tried on single calls")
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name),)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        if context.evaluator is None:
            raise PassFailed("Partial bf16 needs examples to try layers on: add real inputs or pick a shipped corpus that fits.")
        exact = write_ir(source, context.work_dir / "exact", shapes=context.shapes)
        search = _Search(
            evaluator=context.evaluator,
            exact=exact,
            draft=context.work_dir / "draft",
            threads=max(1, context.hardware.cores),
            deadline_s=time.monotonic() + float(params.get("seconds", SECONDS)),
        )
        kept, judged = search.find()
        layers = [layer for part in kept for layer in part.layers]
        entry = write_marked(exact, target_dir, exact=layers)
        return PassResult(entry=entry, facts=search.facts(kept, judged))


@dataclass(slots=True, kw_only=True)
class _Search:
    """One search for the layers to keep exact in the model ``exact``."""

    evaluator: Evaluator
    exact: Path
    draft: Path
    threads: int
    deadline_s: float
    parts: list[Part] = field(default_factory=list)
    noise: Floats = field(default_factory=lambda: np.zeros(0))
    runs: int = 0

    @property
    def reduced(self) -> BackendSettings:
        return BackendSettings(threads=self.threads, precision=Precision.BF16)

    def find(self) -> tuple[list[Part], Judged]:
        """The parts to keep exact. Raises ``pass.no_change`` when none is needed, ``pass.failed`` when none is enough."""
        plain = self._judge([])
        if plain.holds:
            raise NoChange("bf16 in all layers already keeps the outputs; no layer has to stay in f32.")
        self.parts = self._find_parts()
        if not self.parts:
            raise PassFailed("The runtime names no layer that it computes in bf16, so none can be kept in f32.")
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
                f"Even with all {len(order)} layers that can be kept in f32, {answers[len(order)].reason[:1].lower()}"
                f"{answers[len(order)].reason[1:]}"
            )
        if count == len(order):
            raise NoChange("Every layer would have to stay in f32.")
        return [self.parts[index] for index in order[:count]], answers[count]

    def facts(self, kept: Sequence[Part], judged: Judged) -> dict[str, Any]:
        """How many layers stay exact and which; the layers that make the most noise, with the time that bf16 saves on each."""
        total = float(self.noise.sum()) or 1.0
        ranked = sorted(zip(self.noise, self.parts, strict=True), key=lambda pair: -pair[0])[:REPORTED]
        return {
            "parts": len(self.parts),
            "parts_exact": len(kept),
            "layers_exact": [part.layers[0] for part in kept][:REPORTED],
            "fidelity": judged.values,
            "runs": self.runs,
            "sensitivity": [
                {"layer": part.layers[0], "kind": part.kind, "noise_share": round(float(noise) / total, 4), "saved_us": part.saved_us}
                for noise, part in ranked
            ],
        }

    def _judge(self, kept: Sequence[Part]) -> Judged:
        self.runs += 1
        return self.evaluator.judge(self._marked(kept), self.reduced)

    def _marked(self, kept: Sequence[Part]) -> Path:
        return write_marked(self.exact, self.draft, exact={layer for part in kept for layer in part.layers})

    def _find_parts(self) -> list[Part]:
        """Nodes that the runtime computes in bf16 and whose layers can be marked, with what bf16 saves on each."""
        known = set(layer_names(self.exact))
        reduced = self.evaluator.nodes(self.exact, self.reduced)
        full = self.evaluator.nodes(self.exact, BackendSettings(threads=self.threads, precision=Precision.F32))
        spent: dict[str, float] = {layer: node.time_us or 0.0 for node in full for layer in node.layers}
        return [part for node in reduced if node.precision == "bf16" and (part := _part(node, known=known, spent=spent))]

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
            powers.append(self.evaluator.noise(self._marked(kept), self.reduced, examples=NOISE_EXAMPLES))
        return contributions(reduced[: len(powers)], powers)


def _part(node: ExecutedNode, *, known: set[str], spent: dict[str, float]) -> Part | None:
    layers = tuple(layer for layer in node.layers if layer in known)
    if not layers:
        return None
    full_us = max((spent.get(layer, 0.0) for layer in node.layers), default=0.0)
    return Part(kind=node.kind, layers=layers, saved_us=round(max(0.0, full_us - (node.time_us or 0.0)), 1))
