"""Where forms of one model meet: the same sealed examples judge all of them, and all are timed side by side."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from optimizer.cli_workbench import Opened, Workbench
from optimizer.codec import to_jsonable
from optimizer.errors import EngineError
from optimizer.measure.fidelity import FidelityResult
from optimizer.measure.fidelity_outputs import FILE_NAME
from optimizer.measure.inputs import ARRAYS, InputSet, split
from optimizer.pipeline import HeldField, Pace, StepFailed, Subject, Verifier, Yardstick, as_uploaded, limits_for, portion
from optimizer.sandbox import ChildJob, Limits
from optimizer.search.candidates import reference_of
from optimizer.specs import Budget, SearchSpec, Verdict
from tests.benchmarks.optimizer_bench.forms import ORIGINAL, Form, Runnable, TorchForm
from tests.benchmarks.optimizer_bench.torch_forms import TorchHeld, stored_outputs
from tests.benchmarks.optimizer_zoo import Exhibit

TIMING_EXAMPLES = 32
FOLDER = "huggingface"
CHILD_WALL_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict of the sealed examples on one form. ``holds``: proven; ``by_value``: at least the values reach every limit."""

    verdict: Verdict
    reason: str
    values: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return self.verdict is Verdict.PASS

    @property
    def by_value(self) -> bool:
        return self.holds or (bool(self.limits) and all(self.values.get(kpi, -math.inf) >= limit for kpi, limit in self.limits.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Medians in ns of one form, one per opening, and log ratios original / form of the same openings (above 0 is faster)."""

    medians_ns: list[float] = field(default_factory=list)
    log_ratios: list[float] = field(default_factory=list)


def exported(opened: Opened, *, bench: Workbench, bindings: tuple[str, ...]) -> Opened:
    """The checked ONNX export of a Hugging Face folder: what tools that read no folders are given."""
    job = ChildJob(
        entry="optimizer.passes.child:apply_recipe",
        params={
            "entry": opened.entry,
            "passes": [{"name": "onnx_export"}],
            "card": to_jsonable(opened.card),
            "hardware": to_jsonable(bench.hardware()),
            "shapes": {},
        },
        binds={"model": opened.folder},
        limits=Limits(wall_s=CHILD_WALL_S),
    )
    outcome = bench.sandbox.run(job)
    if outcome.failure:
        raise RuntimeError(f"{outcome.failure.code}: {outcome.failure.detail}")
    return bench.open_model(outcome.out_dir / "model" / str((outcome.result or {})["entry"]), bindings=bindings)


class Arena:
    """One model with its inputs, opened once. Close it by leaving its ``bench``."""

    def __init__(self, exhibit: Exhibit, *, bench: Workbench, budget: Budget, threads: int | None, sealed: int) -> None:
        self.hardware = bench.hardware()
        self.uploaded = bench.open_model(exhibit.model, bindings=exhibit.bindings, name="uploaded")
        opened = self.uploaded if self.uploaded.card.format != FOLDER else exported(self.uploaded, bench=bench, bindings=exhibit.bindings)
        self.spec = SearchSpec(budget=budget, task=exhibit.task, bindings=dict(opened.card.bindings), max_threads=threads)
        self.inputs = bench.inputs(opened, self.spec, dataset=exhibit.inputs)
        self.sandbox = bench.sandbox
        parts, root = split(self.inputs, sealed_at_most=budget.accuracy_examples_most), bench.folder / "parts"
        self.given = portion(self.inputs, parts.calibration + parts.search, root=root)
        counts = sorted({min(sealed, budget.accuracy_examples), sealed})
        self.sealed = [portion(self.inputs, parts.sealed[:count], root=root) for count in counts]
        self.subject = Subject(
            model_dir=opened.folder,
            entry=opened.entry,
            card=opened.card,
            hardware=self.hardware,
            inputs=self.inputs,
            timing=portion(self.inputs, parts.search[:TIMING_EXAMPLES], root=root),
            calibration=portion(self.inputs, parts.calibration, root=root),
            choosing=portion(self.inputs, parts.search, root=root),
            yardstick=Yardstick(
                reference=reference_of(opened.card, self.spec, self.hardware), task=exhibit.task or opened.card.task, sealed_examples=sealed
            ),
            workspace=bench.folder,
            limits=limits_for(self.hardware, wall_s=CHILD_WALL_S),
        )
        self.original = Form(
            maker=ORIGINAL,
            label="ONNX Runtime default",
            build=as_uploaded(self.subject),
            recipe=reference_of(opened.card, self.spec, self.hardware),
        )
        self.is_folder = opened is not self.uploaded
        self.exhibit = exhibit
        self.compiled = bench.folder / "inductor"
        self._judgements: dict[str, Judgement] = {}
        self._verifier = Verifier(
            subject=self.subject,
            sandbox=self.sandbox,
            baseline=(self.original.build, self.original.recipe),
            task=exhibit.task or opened.card.task,
        )

    @property
    def model(self) -> Path:
        return self.subject.model_dir / self.subject.entry

    def judge(self, form: Runnable) -> Judgement:
        """Sealed examples through the form, held to the default limits of the model's task; equal forms are judged once."""
        key = form.job(Path()) if isinstance(form, TorchForm) else f"{form.build.sha256} {form.recipe.backend} {form.recipe.settings}"
        if key not in self._judgements:
            self._judgements[key] = self._judgement(form)
        return self._judgements[key]

    def _judgement(self, form: Runnable) -> Judgement:
        """By the usual number of sealed examples, and where these leave it open by as many as Parka opened."""
        for examples in self.sealed:
            found = self._judgement_on(form, examples)
            if found.verdict is not Verdict.UNPROVEN:
                break
        return found

    def _judgement_on(self, form: Runnable, examples: InputSet) -> Judgement:
        try:
            found = self._judged(form, examples)
        except StepFailed as failed:
            return Judgement(verdict=Verdict.FAIL, reason=failed.failure.detail)
        except (EngineError, RuntimeError) as error:
            return Judgement(verdict=Verdict.FAIL, reason=str(error))
        values = {one.kpi: one.value for one in found.measurements if one.value is not None}
        verdict = Verdict.PASS if found.invariant else found.verdict
        return Judgement(verdict=verdict, reason=found.reason, values=values, limits=dict(found.limits))

    def _judged(self, form: Runnable, examples: InputSet) -> FidelityResult:
        if isinstance(form, Form):
            return self._verifier.compare(form.build, form.recipe, examples=examples, accuracy_invariant=False)
        with tempfile.TemporaryDirectory() as place:
            stored_outputs(form, examples=examples.folder / ARRAYS, outputs=Path(place, FILE_NAME), compiled=self.compiled)
            return self._verifier.compare_stored(Path(place, FILE_NAME), examples=examples, accuracy_invariant=False)

    def time(self, forms: Sequence[Runnable], *, openings: int, rounds: int, seconds: float) -> list[Timing]:
        """Fresh processes of all forms held open at once, visited in random order; a form that dies has no further times."""
        timings = [Timing() for _ in forms]
        dice = random.Random(1)
        alive = set(range(len(forms)))
        for _ in range(openings):
            ring = Ring(self, forms, alive)
            held = [ring.round(dice.sample(sorted(ring.alive), len(ring.alive)), seconds=seconds) for _ in range(rounds)]
            ring.close()
            alive = ring.alive
            for number in alive:
                timings[number].medians_ns.append(median(one[number] for one in held))
                timings[number].log_ratios.append(median(math.log(one[0] / one[number]) for one in held))
        return timings


class Ring:
    """One opening: every form in a fresh process. ``alive`` are those that still answer."""

    def __init__(self, arena: Arena, forms: Sequence[Runnable], alive: set[int]) -> None:
        self.alive = set(alive)
        entrants = {number: (form.build, form.recipe) for number, form in enumerate(forms) if isinstance(form, Form)}
        self._field = HeldField(arena.subject, sandbox=arena.sandbox, entrants=entrants, pace=Pace(), life_s=3600.0)
        self._modules: dict[int, TorchHeld] = {}
        for number, form in enumerate(forms):
            if isinstance(form, TorchForm) and number in self.alive:
                try:
                    self._modules[number] = TorchHeld(form, examples=arena.subject.timing.folder / ARRAYS, compiled=arena.compiled)
                except RuntimeError:
                    self.alive.discard(number)

    def round(self, order: Sequence[int], *, seconds: float) -> dict[int, float]:
        """Median of a call of each in ns."""
        medians: dict[int, float] = {}
        for number in order:
            if number not in self._modules:
                done = self._field.round([number], seconds=seconds, kept=self.alive)
                medians |= done.medians_ns
                self.alive -= set(done.failures)
                continue
            try:
                medians[number] = self._modules[number].round(seconds)
            except RuntimeError:
                self.alive.discard(number)
        return medians

    def close(self) -> None:
        self._field.close()
        for module in self._modules.values():
            module.close()
