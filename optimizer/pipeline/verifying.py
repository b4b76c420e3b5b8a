"""Fidelity of a build: its outputs, from a child, against Trial 0's, which are computed once per split and kept on disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.codec import digest
from optimizer.errors import EngineError, InputError
from optimizer.measure.fidelity import FidelityResult, compare_outputs, require_finite
from optimizer.measure.fidelity_outputs import FILE_NAME, StoredOutputs
from optimizer.measure.inputs import ARRAYS, InputSet, load_label
from optimizer.measure.streams import Streams, fed_back
from optimizer.pipeline.builds import Build
from optimizer.pipeline.subject import StepFailed, Subject, binds, result_of
from optimizer.sandbox import ChildJob, Sandbox
from optimizer.specs import Failure, KpiTarget, Recipe, TaskKind

ENTRY = "optimizer.measure.fidelity_child:outputs"


@dataclass(slots=True, kw_only=True)
class Verifier:
    """Compares recipes with the reference. ``baseline`` is Trial 0's build and recipe."""

    subject: Subject
    sandbox: Sandbox
    baseline: tuple[Build, Recipe]
    task: TaskKind
    targets: tuple[KpiTarget, ...] = ()
    _references: dict[str, Path] = field(default_factory=dict)

    def prepare(self, examples: InputSet) -> None:
        """Compute Trial 0's outputs on these examples, unless they are there. Raises StepFailed (also ``baseline.not_finite``)."""
        self._reference(examples)

    def compare(self, build: Build, recipe: Recipe, *, examples: InputSet, accuracy_invariant: bool) -> FidelityResult:
        """Fidelity of a recipe on these examples. Raises StepFailed."""
        self.prepare(examples)
        _, folder = self._run(build, recipe, examples)
        try:
            return self.compare_stored(folder / FILE_NAME, examples=examples, accuracy_invariant=accuracy_invariant)
        except EngineError as error:
            raise StepFailed(Failure(code=error.code, detail=error.message), side=error.side) from error
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)

    def compare_stored(self, candidate: Path, *, examples: InputSet, accuracy_invariant: bool) -> FidelityResult:
        """Fidelity of outputs that lie in a file (see ``fidelity_outputs``). Raises StepFailed, EngineError for a file that is none."""
        ours, theirs = StoredOutputs(self._reference(examples)), StoredOutputs(candidate)
        try:
            return compare_outputs(
                self.task,
                ours,
                theirs,
                targets=self.targets,
                source=self.subject.inputs.source,
                accuracy_invariant=accuracy_invariant,
                labels=self._labels(examples),
                seed=self.subject.seed,
                streams=self._streams(ours, examples),
            )
        finally:
            ours.close()
            theirs.close()

    def _fed_back(self, examples: InputSet) -> list[list[str]]:
        """Pairs (input, output) of state that streams of these examples carry."""
        return [list(pair) for pair in fed_back(self.subject.card)] if examples.stream_steps > 1 else []

    def _streams(self, reference: StoredOutputs, examples: InputSet) -> Streams | None:
        """How the outputs were made, if any state had the shape to be fed back."""
        names = [one.name for one in self.subject.card.outputs]
        shapes = [one.shape for one in reference[0]] if len(reference) else []
        states = frozenset(
            names.index(target)
            for source, target in self._fed_back(examples)
            if len(shapes) == len(names) and shapes[names.index(target)] == examples.shapes[source]
        )
        return Streams(steps=examples.stream_steps, states=states) if states else None

    def _labels(self, examples: InputSet) -> np.ndarray[Any, Any] | None:
        if not examples.has_labels:
            return None
        return np.array([load_label(examples.folder / ARRAYS, index) for index in range(examples.n)])

    def _reference(self, examples: InputSet) -> Path:
        build, recipe = self.baseline
        key = digest(
            [build.sha256, recipe.key, examples.digest, self.subject.hardware.runtimes, self._fed_back(examples), self.subject.buckets]
        )
        found = self._references.get(key) or self.subject.workspace / "reference" / f"{key}.npz"
        if not found.exists():
            self._store_reference(found, examples)
        self._references[key] = found
        return found

    def _store_reference(self, target: Path, examples: InputSet) -> None:
        answer, folder = self._run(*self.baseline, examples)
        try:
            require_finite(answer)
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=target.parent)
            os.close(handle)
            shutil.move(folder / FILE_NAME, draft)
            Path(draft).replace(target)
        except InputError as error:
            raise StepFailed(Failure(code=error.code, detail=error.message), side=error.side) from error
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)

    def _run(self, build: Build, recipe: Recipe, examples: InputSet) -> tuple[dict[str, Any], Path]:
        job = ChildJob(
            entry=ENTRY,
            params={
                **self.subject.session_params(build, recipe, examples),
                "streams": {"steps": examples.stream_steps, "pairs": self._fed_back(examples)},
            },
            binds=binds(build, examples),
            limits=self.subject.limits,
        )
        outcome = self.sandbox.run(job, cancelled=self.subject.cancelled)
        try:
            return result_of(outcome), outcome.out_dir
        except StepFailed:
            shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)
            raise
