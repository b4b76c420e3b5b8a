"""Tallies turned into Measurements: shares by Wilson, percentiles by ranks, the rest by bootstrap over examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from optimizer.kpis import kpi
from optimizer.measure import fidelity_rules as rules
from optimizer.measure.detections import Boxes
from optimizer.measure.estimate import Estimate
from optimizer.measure.fidelity_tallies import OutputTally, Sequences, TopClasses, Vectors
from optimizer.measure.percentile import independent_percentile_interval
from optimizer.measure.proportions import tango, wilson
from optimizer.measure.resampling import bootstrap_interval, similarity_rank_correlation
from optimizer.specs import Measurement

Array = np.ndarray[Any, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]
SNR_CEILING_DB = 200.0
"""Equal outputs read this; float64 sums resolve no more."""


def worst_cosine(tallies: Sequence[OutputTally]) -> Measurement:
    """First percentile over examples of the smallest cosine among the outputs."""
    smallest = np.min([tally.cosines for tally in tallies], axis=0)
    return independent_percentile_interval(smallest, rules.LOWEST_PERCENTILE).measurement(rules.COSINE)


def worst_snr(tallies: Sequence[OutputTally], *, seed: int) -> Measurement:
    """The smallest SNR among the outputs, with its bootstrap interval over examples."""
    worst = min(tallies, key=snr_value)
    signals, noises = np.asarray(worst.signals), np.asarray(worst.noises)
    estimate = bootstrap_interval(lambda chosen: _snr(float(signals[chosen].sum()), float(noises[chosen].sum())), len(signals), seed=seed)
    return estimate.measurement(rules.SNR)


def snr_value(tally: OutputTally) -> float:
    """SNR in dB over all examples of one output."""
    return _snr(sum(tally.signals), sum(tally.noises))


def _snr(signal: float, noise: float) -> float:
    if noise == 0:
        return SNR_CEILING_DB
    return min(SNR_CEILING_DB, max(-SNR_CEILING_DB, 10 * math.log10(signal / noise))) if signal > 0 else -SNR_CEILING_DB


def largest_error(tallies: Sequence[OutputTally]) -> Measurement:
    """Largest absolute difference seen; a fact about these examples, without an interval."""
    n = len(tallies[0].equal)
    name = rules.LARGEST
    return Measurement(kpi=name, value=max(tally.largest for tally in tallies), unit=kpi(name).unit, n=n, n_eff=n, method="maximum")


def equal_share(tallies: Sequence[OutputTally]) -> Measurement:
    """Share of examples whose whole-number and text outputs all equal the original's."""
    together = np.all([tally.equal for tally in tallies], axis=0)
    return wilson(int(together.sum()), len(together)).measurement(rules.TOP1)


def top1_agreement(classes: TopClasses, *, clustered: bool = False) -> Measurement:
    """Share of rows with the same top class; ``clustered`` where the rows of one example are the steps of a stream."""
    if clustered:
        same = [int((one == other).sum()) for one, other in zip(classes.reference, classes.candidate, strict=True)]
        return clustered_share(same, [one.size for one in classes.reference]).measurement(rules.TOP1)
    ours, theirs = np.concatenate(classes.reference), np.concatenate(classes.candidate)
    return wilson(int((ours == theirs).sum()), len(ours)).measurement(rules.TOP1)


def accuracy(classes: TopClasses, labels: Array) -> tuple[Measurement, Measurement] | None:
    """Top-1 accuracy of the candidate and its change in percentage points; None when labels do not match the rows."""
    ours, theirs = np.concatenate(classes.reference), np.concatenate(classes.candidate)
    wanted = np.asarray(labels).ravel()
    if wanted.shape != ours.shape:
        return None
    was_right, is_right = ours == wanted, theirs == wanted
    share = wilson(int(is_right.sum()), len(wanted)).measurement(rules.ACCURACY)
    change = tango(int((is_right & ~was_right).sum()), int((was_right & ~is_right).sum()), len(wanted))
    return share, change.measurement(rules.ACCURACY_DELTA, scale=100.0)


def vector_measurements(vectors: Vectors, *, seed: int) -> tuple[Measurement, ...]:
    """Spearman of all pairwise cosine similarities (bootstrap over examples) and nearest-neighbour agreement (Wilson)."""
    ours, theirs = (similarities(np.concatenate(part)) for part in (vectors.reference, vectors.candidate))
    if len(ours) < 3:
        return ()
    ranks = similarity_rank_correlation(ours, theirs, seed=seed).measurement(rules.RANKS)
    same = nearest(ours) == nearest(theirs)
    return ranks, wilson(int(same.sum()), len(same)).measurement(rules.NEAREST)


def similarities(vectors: Floats) -> Floats:
    """Cosine of every pair [n, n]; a zero vector is similar to nothing."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return np.asarray(unit @ unit.T)


def nearest(similar: Floats) -> Array:
    """Index of each example's nearest other example."""
    others = similar.copy()
    np.fill_diagonal(others, -np.inf)
    return np.asarray(others.argmax(axis=1))


def sequence_measurements(sequences: Sequences) -> tuple[Measurement, ...]:
    """Agreement of characters, where the original reads any; shares of equal decoded strings and of agreeing steps."""
    exact = wilson(sum(sequences.exact), len(sequences.exact)).measurement(rules.EXACT)
    steps = clustered_share(sequences.steps_agreed, sequences.steps).measurement(rules.STEPS)
    if not any(sequences.characters):
        return exact, steps
    right = np.subtract(sequences.characters, sequences.edits).tolist()
    return clustered_share(right, sequences.characters).measurement(rules.CHARACTERS), exact, steps


def detection_f1(boxes: Boxes) -> tuple[Measurement, ...]:
    """F1 of all boxes, images being the evidence; images in which neither model finds anything agree and weigh nothing."""
    return (clustered_share(boxes.matched_twice, boxes.boxes).measurement(rules.DETECTION),) if any(boxes.boxes) else ()


def clustered_share(agreed: Sequence[float], sizes: Sequence[float]) -> Estimate:
    """Share of all parts that agree, at least 0; the examples they come in are the evidence.

    Wilson on what the examples are worth (see ``_effective``). The lower limit never exceeds that of as many examples without
    any disagreement: a whole example may fail at once, and errors must not prove more than none.
    """
    right, parts = np.asarray(agreed, float), np.asarray(sizes, float)
    share = max(0.0, float(right.sum() / parts.sum()))
    most = int((parts > 0).sum())
    found = wilson(share * len(parts), len(parts), n_eff=_effective(right, parts, share, most=most))
    clean = wilson(most, most).low
    return found if found.low is None or clean is None or found.low <= clean else replace(found, low=clean)


def _effective(right: Array, parts: Array, share: float, *, most: int) -> int:
    """What the examples are worth: p(1 - p) over the variance of the share between examples (the ratio estimator's, Kish 1965).

    Up to ``most``, the number of examples with parts, that is taken as it is: a bounded share varies no more than a proportion
    of so many. Beyond it the variance itself must be known: the worth shrinks by (z/t)² (Korn and Graubard 1998), with as many
    degrees of freedom as examples disagree; a few that lose much count for few.
    """
    examples, lost = len(parts), parts - right
    residuals = right - share * parts
    variance = examples / max(1, examples - 1) * float((residuals**2).sum()) / float(parts.sum()) ** 2
    if variance <= 0 or share <= 0:
        return max(1, most)
    worth = share * (1 - share) / variance
    freedom = int(lost.sum() ** 2 / (lost**2).sum())
    known = (stats.norm.ppf(0.975) / stats.t.ppf(0.975, freedom)) ** 2 if freedom else 0.0
    return int(max(1, min(most, worth), known * worth))
