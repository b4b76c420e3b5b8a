"""Task-shaped fidelity: do a candidate's outputs do the same job as the original's (measurement.md 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from optimizer.errors import InputError
from optimizer.measure import fidelity_numbers as numbers
from optimizer.measure import fidelity_rules as rules
from optimizer.measure.detections import Boxes, Reading, first_reading
from optimizer.measure.fidelity_rules import DEFAULT_LIMITS, examples_needed
from optimizer.measure.fidelity_tallies import OutputTally, Sequences, TopClasses, Vectors
from optimizer.measure.streams import StreamOutputs, Streams
from optimizer.rounding import is_float
from optimizer.specs import InputSource, KpiTarget, Measurement, TaskKind, Verdict

__all__ = ["DEFAULT_LIMITS", "FidelityResult", "compare_outputs", "examples_needed", "require_finite"]

Array = np.ndarray[Any, Any]
Outputs = Sequence[Sequence[Array]]
"""Per example, the outputs in graph order."""

NOT_FINITE = "fidelity.not_finite"
SHAPE_CHANGED = "fidelity.shape_changed"
REAL_INPUTS_ADVICE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityResult:
    """``code`` is set when outputs were unusable. ``limits`` are the lower limits that gated, by KPI; ``needed`` the examples that
    would probably decide; ``others`` cosine p01 and SNR of every float output, by index; ``stream_steps`` is above 1 where state
    was fed back over streams."""

    verdict: Verdict
    reason: str
    measurements: tuple[Measurement, ...] = ()
    finite: bool = True
    invariant: bool = False
    code: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    needed: int | None = None
    others: dict[int, dict[str, float]] = field(default_factory=dict)
    stream_steps: int = 1


_Collected = TopClasses | Vectors | Sequences | Boxes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Everything counted in one walk over the examples, or over the streams that they form."""

    task: TaskKind
    examples: int
    streams: Streams | None
    tallies: list[OutputTally]
    gate: int | None
    collected: _Collected | None


def compare_outputs(
    task: TaskKind,
    reference: Outputs,
    candidate: Outputs,
    *,
    targets: Iterable[KpiTarget] = (),
    source: InputSource = InputSource.REAL,
    accuracy_invariant: bool = False,
    labels: Array | None = None,
    seed: int = 1,
    streams: Streams | None = None,
) -> FidelityResult:
    """Compare per-example outputs with the untouched baseline's.

    The verdict comes from intervals. It does not wait for numbers of examples where the recipe is invariant by construction
    (``accuracy_invariant``) or the inputs are synthetic, and the outputs agree to rounding; on synthetic inputs nothing else
    passes. With ``labels`` [examples] of a classifier the change in accuracy decides instead of agreement. With ``streams`` a
    stream is one piece of evidence, its steps stand or fall together, and labels, which speak of single steps, are not used.
    Raises InputError ``baseline.not_finite``, ``fidelity.no_examples``.
    """
    wanted = tuple(targets)
    if not len(reference) or len(reference) != len(candidate):
        raise InputError(
            "fidelity.no_examples", f"{len(reference)} and {len(candidate)} examples cannot be compared: use the same inputs for both."
        )
    comparison = _walk(task, reference, candidate, streams=streams)
    if isinstance(comparison, FidelityResult):
        return comparison
    measurements, limits = _measure(comparison, targets=wanted, labels=labels, seed=seed)
    invariant = all(tally.invariant for tally in comparison.tallies)
    verdict, reason, needed = _verdict(measurements, limits, how=_how(streams))
    if invariant and (accuracy_invariant or source is InputSource.SYNTHETIC):
        verdict, reason, needed = (
            Verdict.PASS,
            f"Outputs agree with the original to rounding on {len(reference)} inputs{_how(streams)}.",
            None,
        )
    elif source is InputSource.SYNTHETIC and verdict is Verdict.PASS:
        verdict, needed = Verdict.UNPROVEN, _advised(task, wanted, streams)
        reason = f"Random inputs prove nothing for changed arithmetic: add {needed} real inputs to prove it."
    return FidelityResult(
        verdict=verdict,
        reason=reason,
        measurements=measurements,
        invariant=invariant,
        limits=limits,
        needed=needed,
        others=_others(comparison.tallies),
        stream_steps=streams.steps if streams else 1,
    )


def _advised(task: TaskKind, targets: tuple[KpiTarget, ...], streams: Streams | None) -> int:
    return max(REAL_INPUTS_ADVICE, examples_needed(task, targets) * streams.steps) if streams else REAL_INPUTS_ADVICE


def _how(streams: Streams | None) -> str:
    return f" in streams of {streams.steps} with the state fed back" if streams else ""


def require_finite(result: Mapping[str, Any]) -> None:
    """Check the answer of ``fidelity_child:outputs`` for Trial 0. Raises InputError ``baseline.not_finite``."""
    if not result["finite"]:
        raise _baseline_not_finite()


def _baseline_not_finite() -> InputError:
    return InputError(
        "baseline.not_finite",
        "The original model itself gives NaN or infinity on these inputs, so nothing can be compared with it: check its inputs.",
    )


def _walk(task: TaskKind, reference: Outputs, candidate: Outputs, *, streams: Streams | None) -> _Comparison | FidelityResult:
    """One pass over the examples, or streams; ends early where a candidate's outputs cannot be compared at all."""
    first, examples = reference[0], len(reference)
    if streams is not None:
        reference, candidate = StreamOutputs(reference, streams.steps), StreamOutputs(candidate, streams.steps)
    gate = rules.task_output(task, first, states=streams.states if streams else frozenset())
    tallies = [OutputTally(index=index) for index in range(len(first))]
    reading = first_reading(reference) if task is TaskKind.DETECTION and streams is None else None
    collected = Boxes(reading=reading) if reading else _collector(task) if gate is not None else None
    for number, (ours, theirs) in enumerate(_pairs(reference, candidate)):
        refusal = _unusable(ours, theirs, of=f"{'stream' if streams else 'input'} {number}", reading=reading)
        if refusal:
            return refusal
        for tally, one, other in zip(tallies, ours, theirs, strict=True):
            tally.add(one, other)
        if isinstance(collected, Boxes):
            collected.add(ours, theirs)
        elif collected is not None and gate is not None:
            collected.add(*(_one_row(part, collected, streams) for part in (ours[gate], theirs[gate])))
    return _Comparison(task=task, examples=examples, streams=streams, tallies=tallies, gate=gate, collected=collected)


def _one_row(output: Array, collected: _Collected, streams: Streams | None) -> Array:
    """A stream gives one vector, the mean of its steps."""
    return output.reshape(1, -1, output.shape[-1]) if streams and isinstance(collected, Vectors) else output


def _pairs(reference: Outputs, candidate: Outputs) -> Iterator[tuple[Sequence[Array], Sequence[Array]]]:
    for number in range(len(reference)):
        yield reference[number], candidate[number]


def _collector(task: TaskKind) -> _Collected | None:
    kinds: dict[TaskKind, type[TopClasses | Vectors | Sequences]] = {
        TaskKind.CLASSIFICATION: TopClasses,
        TaskKind.EMBEDDING: Vectors,
        TaskKind.SEQUENCE: Sequences,
    }
    return kinds[task]() if task in kinds else None


def _unusable(ours: Sequence[Array], theirs: Sequence[Array], *, of: str, reading: Reading | None) -> FidelityResult | None:
    """A Fail with its code for changed shapes and for values that are not finite; the baseline's own are an error."""
    if len(ours) != len(theirs):
        return _refused(SHAPE_CHANGED, f"The candidate has {len(theirs)} outputs, the original {len(ours)}.")
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        axis = reading.counted_axis(index) if reading else None
        if _without(axis, one.shape) != _without(axis, other.shape):
            return _refused(SHAPE_CHANGED, f"Output {index} of {of} has shape {list(other.shape)} instead of {list(one.shape)}.")
        if is_float(one) and not np.isfinite(one).all():
            raise _baseline_not_finite()
        if is_float(other) and not np.isfinite(other).all():
            return _refused(NOT_FINITE, f"Output {index} of {of} holds NaN or infinity; the original's does not.", finite=False)
    return None


def _without(axis: int | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape apart from the axis that counts boxes, which two detectors may find in different numbers."""
    return shape if axis is None else tuple(size for place, size in enumerate(shape) if place != len(shape) + axis)


def _refused(code: str, reason: str, *, finite: bool = True) -> FidelityResult:
    return FidelityResult(verdict=Verdict.FAIL, reason=reason, code=code, finite=finite)


def _measure(
    comparison: _Comparison, *, targets: tuple[KpiTarget, ...], labels: Array | None, seed: int
) -> tuple[tuple[Measurement, ...], dict[str, float]]:
    """Measurements, those of the task first, and the limits that gate."""
    floats = _without_states([tally for tally in comparison.tallies if tally.is_float and tally.comparable], comparison.streams)
    whole = [tally for tally in comparison.tallies if not tally.is_float]
    limits = rules.limits_for(comparison.task if comparison.collected is not None else TaskKind.GENERIC, targets)
    found = list(_task_measurements(comparison, seed=seed))
    if isinstance(comparison.collected, TopClasses) and labels is not None and comparison.streams is None:
        accuracy = numbers.accuracy(comparison.collected, labels)
        if accuracy:
            found[:0] = accuracy
            limits = _accuracy_limits(targets)
    gating = [comparison.tallies[comparison.gate]] if comparison.gate is not None else floats
    if gating:
        found += [numbers.worst_cosine(gating), numbers.worst_snr(gating, seed=seed), numbers.largest_error(gating)]
    if comparison.collected is None and whole:
        found.append(numbers.equal_share(whole))
        limits = _whole_limits(limits, has_floats=bool(floats))
    return tuple(_in_examples(one, comparison) for one in found), limits


def _without_states(floats: list[OutputTally], streams: Streams | None) -> list[OutputTally]:
    """State that is fed back shows in the outputs of later steps; it gates only where there is nothing else."""
    seen = [tally for tally in floats if streams is None or tally.index not in streams.states]
    return seen or floats


def _in_examples(measured: Measurement, comparison: _Comparison) -> Measurement:
    """Samples are examples wherever a person reads them; what they are worth stays the number of streams."""
    is_by_stream = comparison.streams is not None and measured.n == len(comparison.tallies[0].equal)
    return replace(measured, n=comparison.examples) if is_by_stream else measured


def _task_measurements(comparison: _Comparison, *, seed: int) -> tuple[Measurement, ...]:
    collected = comparison.collected
    if isinstance(collected, TopClasses):
        return (numbers.top1_agreement(collected, clustered=comparison.streams is not None),)
    if isinstance(collected, Vectors):
        return numbers.vector_measurements(collected, seed=seed)
    if isinstance(collected, Boxes):
        return numbers.detection_f1(collected)
    return numbers.sequence_measurements(collected) if isinstance(collected, Sequences) else ()


def _accuracy_limits(targets: tuple[KpiTarget, ...]) -> dict[str, float]:
    """With labels the change decides; the user's own fidelity targets stay."""
    stated = {target.kpi: target.value for target in targets if target.kpi.startswith("fidelity_") and not target.relative}
    return {rules.ACCURACY_DELTA: -rules.permitted_drop_pp(targets), **stated}


def _whole_limits(limits: dict[str, float], *, has_floats: bool) -> dict[str, float]:
    """Whole-number and text outputs must be equal; without float outputs nothing else can be asked."""
    agreement = {rules.TOP1: limits.get(rules.TOP1, rules.DEFAULT_LIMITS[TaskKind.CLASSIFICATION][rules.TOP1])}
    return {**limits, **agreement} if has_floats else agreement


def _verdict(measurements: tuple[Measurement, ...], limits: dict[str, float], *, how: str) -> tuple[Verdict, str, int | None]:
    judgements = rules.judged(measurements, limits)
    verdict = rules.combined(judgements)
    open_ones = [one.needed.samples for one in judgements.values() if one.verdict is Verdict.UNPROVEN and one.needed]
    needed = max(open_ones, default=0) if verdict is Verdict.UNPROVEN else 0
    return verdict, rules.sentence(verdict, judgements, measurements, limits, how=how), needed or None


def _others(tallies: Sequence[OutputTally]) -> dict[int, dict[str, float]]:
    """Cosine p01 and SNR per float output, gating or not."""
    found = {}
    for tally in tallies:
        if tally.is_float and tally.comparable:
            found[tally.index] = {"cosine_p01": numbers.worst_cosine([tally]).value or 0.0, "snr_db": numbers.snr_value(tally)}
    return found
