"""Sample inputs of a bundle and what the very artifact answers to them, computed through its backend in a sandboxed child."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import EngineError, EngineFault, InputError, Side
from optimizer.measure.fidelity_outputs import FILE_NAME as OUTPUTS
from optimizer.measure.inputs import ARRAYS, InputSet, load_feeds
from optimizer.pipeline import portion
from optimizer.sandbox import ChildJob, Limits, Sandbox
from optimizer.sandbox.job import ChildOutcome
from optimizer.specs import Recipe, TensorSpec
from optimizer.units import MIB

ENTRY = "optimizer.measure.fidelity_child:outputs"
MOST_EXAMPLES, MOST_BYTES = 8, 4 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """``folder`` holds ``inputs.npz`` (one array per input, [n, *shape]) and ``outputs.npz`` (``<output>/<example>``).

    ``inputs`` and ``outputs`` are the tensors as the opened session tells them, in the session's order.
    """

    folder: Path
    n: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model that can be opened: ``entry`` is relative to ``folder``."""

    folder: Path
    entry: str
    recipe: Recipe


def make_samples(
    artifact: Artifact, *, inputs: InputSet, indices: Sequence[int], sandbox: Sandbox, root: Path, limits: Limits | None = None
) -> Samples:
    """Run the artifact on the first of these examples, as many as stay small (at least one), and keep both sides below ``root``.

    Raises EngineError with the code of a model that cannot run, ``samples.none`` when there is no example.
    """
    if not indices:
        raise InputError("samples.none", "There is no example to put into the bundle.")
    unlabelled = replace(inputs, has_labels=False)
    count = _fitting(sum(array.nbytes for array in load_feeds(inputs.folder / ARRAYS, indices[0]).values()), len(indices))
    while True:
        chosen = portion(unlabelled, tuple(indices[:count]), root=root)
        outcome = run_artifact(artifact, chosen, sandbox=sandbox, limits=limits or Limits())
        produced = outcome.out_dir / OUTPUTS
        fitting = _fitting(produced.stat().st_size // count, count)
        if fitting == count:
            break
        shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)
        count = fitting
    shutil.move(produced, chosen.folder / OUTPUTS)
    shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)
    told = outcome.result or {}
    return Samples(
        folder=chosen.folder,
        n=count,
        inputs=tuple(from_jsonable(TensorSpec, one) for one in told["inputs"]),
        outputs=tuple(from_jsonable(TensorSpec, one) for one in told["outputs"]),
    )


def _fitting(example_bytes: int, at_most: int) -> int:
    return max(1, min(MOST_EXAMPLES, at_most, MOST_BYTES // max(1, example_bytes)))


def run_artifact(artifact: Artifact, inputs: InputSet, *, sandbox: Sandbox, limits: Limits) -> ChildOutcome:
    """The artifact's outputs on all of these examples, in ``out_dir``. Raises EngineError with the code of a model that cannot run."""
    params = {
        "entry": artifact.entry,
        "backend": artifact.recipe.backend,
        "settings": to_jsonable(artifact.recipe.settings),
        "shapes": {name: list(shape) for name, shape in inputs.shapes.items()},
        "indices": list(range(inputs.n)),
    }
    outcome = sandbox.run(ChildJob(entry=ENTRY, params=params, binds={"model": artifact.folder, "inputs": inputs.folder}, limits=limits))
    if outcome.failure is None:
        return outcome
    shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)
    is_users = outcome.failure.side is Side.USER or outcome.failure.code.split(".", maxsplit=1)[0] in ("input", "backend")
    kind: type[EngineError] = InputError if is_users else EngineFault
    raise kind(outcome.failure.code, outcome.failure.detail)
