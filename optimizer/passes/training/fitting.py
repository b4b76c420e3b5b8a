"""The training loop: a fixed number of steps that fits the time, a deadline, validation, the best state kept and written down.

Imports torch: import this where it is needed only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from optimizer.passes.errors import NoChange
from optimizer.passes.onnx_files import load
from optimizer.passes.training.data import Array, Examples, Material
from optimizer.passes.training.losses import Objective
from optimizer.passes.training.module import GraphModule, as_tensors, run_batch

BATCH = 64
EPOCHS_AT_MOST = 60
TRIED_STEPS = 4
TIME_SHARE = 0.85
"""Steps are planned for this share of the time; validation takes part of it and hosts have slow moments."""
FEWEST_STEPS = 30
VALIDATIONS = 20
WEIGHT_DECAY = 1e-4
CLIPPED_AT = 5.0
WARM_UP_SHARE = 0.1
LATE_BY = 0.05
MIXED_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """``rate`` is the highest learning rate; ``steps`` fixes how many there are (0: as many as fit); ``mixed`` adds blends of examples."""

    deadline_s: float
    rate: float
    seed: int
    say: Callable[[str], None]
    steps: int = 0
    mixed: bool = False
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good a state is on the validation examples: first the share of right answers, then the loss."""

    right: float
    loss: float

    def beats(self, other: Score | None) -> bool:
        return other is None or (self.right, -self.loss) > (other.right, -other.loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What became of it: steps done of those planned, and the scores before, at best and of the teacher."""

    steps: int
    planned: int
    before: Score
    best: Score
    teacher: Score
    best_step: int


def fit(student: GraphModule, teacher: GraphModule, material: Material, objective: Objective, *, terms: Terms) -> Fitted:
    """Train until the steps or the time end, and leave the student in its best state.

    Raises ``pass.no_change`` when the time holds too few steps to learn anything.
    """
    torch.manual_seed(terms.seed)
    lessons = _Lessons(teacher, material.training, np.random.default_rng(terms.seed), terms.mixed)
    planned = terms.steps or _steps_that_fit(student, lessons, objective, deadline_s=terms.deadline_s)
    watch = _Watch(student, _Validator(teacher, material.validation, objective), planned=planned, terms=terms)
    weights = list(student.weights.values())
    optimiser = torch.optim.AdamW(weights, lr=terms.rate, weight_decay=WEIGHT_DECAY)
    step, began_s = 0, time.monotonic()
    while step < planned and (now_s := time.monotonic()) < terms.deadline_s:
        spent_share = (now_s - began_s) / (terms.deadline_s - began_s)
        for group in optimiser.param_groups:
            group["lr"] = terms.rate * rate_share(progress(step / planned, spent_share))
        inputs, wanted, labels = lessons.next()
        optimiser.zero_grad()
        objective(run_batch(student, inputs), wanted, labels).backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIPPED_AT)
        optimiser.step()
        step += 1
        watch.after(step)
    watch.end(step)
    student.restore(watch.state)
    return Fitted(steps=step, planned=planned, before=watch.before, best=watch.best, teacher=watch.teacher_score, best_step=watch.best_step)


class _Watch:
    """Scores the student now and then, keeps its best state, and says how far it is."""

    def __init__(self, student: GraphModule, validator: _Validator, *, planned: int, terms: Terms) -> None:
        self._student, self._validator, self._planned, self._terms = student, validator, planned, terms
        self.before = self.best = validator.score(student)
        self.best_step, self.state = 0, student.state()
        self._every = max(1, planned // VALIDATIONS)
        self._patience_s = 2 * (terms.deadline_s - time.monotonic()) / VALIDATIONS
        self._last_step, self._last_s = 0, time.monotonic()

    @property
    def teacher_score(self) -> Score:
        return self._validator.teacher_score

    def after(self, step: int) -> None:
        """Every so many steps, or after so much time where steps take longer than planned."""
        if step % self._every == 0 or time.monotonic() - self._last_s > self._patience_s:
            self._score(step)

    def end(self, step: int) -> None:
        if step != self._last_step:
            self._score(step)

    def _score(self, step: int) -> None:
        score = self._validator.score(self._student)
        if score.beats(self.best):
            self.best, self.best_step, self.state = score, step, self._student.state()
            _keep(self._student, self._terms.checkpoint)
        self._terms.say(self._words(step))
        self._last_step, self._last_s = step, time.monotonic()

    def _words(self, step: int) -> str:
        if not self._validator.has_answers:
            return f"training {step} of {self._planned} steps, error {self.best.loss:.3g} at best"
        return f"training {step} of {self._planned} steps, {self.best.right:.1%} right at best"


def progress(steps_share: float, time_share: float) -> float:
    """How far a training is: by its steps, and by the time where that runs out first. The clock does not decide what it need not."""
    return time_share if time_share > steps_share + LATE_BY else steps_share


def rate_share(done_share: float) -> float:
    """Share of the highest rate: up in the first tenth, then down along a cosine."""
    if done_share < WARM_UP_SHARE:
        return (done_share + 0.01) / (WARM_UP_SHARE + 0.01)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done_share - WARM_UP_SHARE) / (1 - WARM_UP_SHARE))))


Lesson = tuple[list[Tensor], tuple[Tensor, ...], Tensor | None]
"""Inputs, the teacher's outputs, labels."""


@dataclass(slots=True)
class _Lessons:
    """Batches in random order with what the teacher says to them; on plain examples it is asked once."""

    teacher: GraphModule
    examples: Examples
    rng: np.random.Generator
    mixed: bool
    _order: list[int] = field(default_factory=list)
    _known: list[Tensor] = field(default_factory=list)
    _is_known: Array = field(default_factory=lambda: np.zeros(0, bool))

    def next(self) -> Lesson:
        """Blends of two examples have no label: the teacher alone says what is right there."""
        chosen = self._next_indices()
        picked = self.examples.chosen(chosen)
        if self.mixed and self.rng.random() < MIXED_SHARE and all(array.dtype.kind == "f" for array in picked.arrays):
            blended = self._blended(picked)
            return blended, self._ask(blended), None
        labels = None if picked.labels is None else torch.from_numpy(picked.labels.astype(np.int64))
        return as_tensors(list(picked.arrays)), self._answers(chosen), labels

    def _next_indices(self) -> Array:
        size = min(BATCH, len(self.examples))
        if len(self._order) < size:
            self._order = self.rng.permutation(len(self.examples)).tolist()
        chosen, self._order = np.array(self._order[:size], np.int64), self._order[size:]
        return chosen

    def _blended(self, picked: Examples) -> list[Tensor]:
        """Mixup of the inputs (Zhang et al. 2018, arXiv 1710.09412)."""
        share = self.rng.uniform(0, 1, len(picked))
        order = self.rng.permutation(len(picked))
        return as_tensors([_blend(array, order, share) for array in picked.arrays])

    def _ask(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return run_batch(self.teacher, inputs)

    def _answers(self, chosen: Array) -> tuple[Tensor, ...]:
        if not self._known:
            self._is_known = np.zeros(len(self.examples), bool)
        missing = chosen[~self._is_known[chosen]] if len(self._is_known) else chosen
        if len(missing):
            made = self._ask(as_tensors(list(self.examples.chosen(missing).arrays)))
            self._known = self._known or [one.new_zeros((len(self.examples), *one.shape[1:])) for one in made]
            for stored, one in zip(self._known, made, strict=True):
                stored[missing] = one
            self._is_known[missing] = True
        return tuple(stored[chosen] for stored in self._known)


def _blend(array: Array, order: Array, share: Array) -> Array:
    weights = share.reshape(-1, *(1 for _ in array.shape[1:])).astype(array.dtype)
    blended: Array = array * weights + array[order] * (1 - weights)
    return blended


def _steps_that_fit(student: GraphModule, lessons: _Lessons, objective: Objective, *, deadline_s: float) -> int:
    """From the time of a few steps that change nothing, and what asking the teacher once about every example takes."""
    began_s = time.monotonic()
    lesson = lessons.next()
    asked_s = time.monotonic() - began_s
    spent = [_step_s(student, lesson, objective) for _ in range(TRIED_STEPS)]
    step_s = sum(spent[1:]) / len(spent[1:]) + (MIXED_SHARE * asked_s if lessons.mixed else 0.0)
    left_s = deadline_s - time.monotonic()
    asking_s = asked_s * len(lessons.examples) / BATCH
    fitting = int((TIME_SHARE * left_s - min(asking_s, 0.5 * left_s)) / max(1e-9, step_s))
    if fitting < FEWEST_STEPS:
        raise NoChange(f"Only {max(0, fitting)} training steps fit into the {max(0.0, left_s):.0f} s that are left; allow a larger budget.")
    return min(fitting, max(FEWEST_STEPS, EPOCHS_AT_MOST * len(lessons.examples) // BATCH))


def _step_s(student: GraphModule, lesson: Lesson, objective: Objective) -> float:
    """Seconds of one step that changes nothing."""
    inputs, wanted, labels = lesson
    begin_s = time.monotonic()
    objective(run_batch(student, inputs), wanted, labels).backward()
    student.forget_gradients()
    return time.monotonic() - begin_s


class _Validator:
    """Scores states on the validation examples; the teacher's outputs there are computed once."""

    def __init__(self, teacher: GraphModule, examples: Examples, objective: Objective) -> None:
        self._objective = objective
        self._batches = [examples.chosen(part) for part in np.array_split(np.arange(len(examples)), max(1, len(examples) // BATCH))]
        self._size = len(examples)
        self._wanted = [self._run(teacher, batch) for batch in self._batches]
        self.teacher_score = self._of(self._wanted)
        self.has_answers = objective.scores is not None

    def score(self, student: GraphModule) -> Score:
        return self._of([self._run(student, batch) for batch in self._batches])

    @staticmethod
    def _run(module: GraphModule, batch: Examples) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return run_batch(module, as_tensors(list(batch.arrays)))

    def _of(self, outputs: list[tuple[Tensor, ...]]) -> Score:
        right = loss = 0.0
        for ours, wanted, batch in zip(outputs, self._wanted, self._batches, strict=True):
            labels = None if batch.labels is None else torch.from_numpy(batch.labels.astype(np.int64))
            right += self._objective.right(ours, wanted, labels) * len(batch)
            loss += float(self._objective(ours, wanted, labels)) * len(batch)
        return Score(right=right / self._size, loss=loss / self._size)


def _keep(student: GraphModule, checkpoint: Path | None) -> None:
    """Write the state as a model; the file is whole at any moment."""
    if checkpoint is None:
        return
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    draft = checkpoint.with_suffix(".part")
    onnx.save(student.to_model(), str(draft))
    draft.replace(checkpoint)


def resumed(checkpoint: Path | None) -> onnx.ModelProto | None:
    """The best model of an earlier, interrupted attempt."""
    return load(checkpoint) if checkpoint is not None and checkpoint.is_file() else None
