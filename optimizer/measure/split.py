"""Divides examples by content into disjoint parts, so that nothing that chose or trained a model also judges it (measurement.md 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimizer.measure.streams import stream_digests

SEALED_FLOOR = 381  # a 0.99 agreement limit with no change at all, measurement.md 9
CALIBRATION_AT_MOST, SEARCH_AT_MOST = 60, 200
CALIBRATION_SHARE, SEARCH_SHARE = 0.09, 0.29
TRAINING_AT_LEAST, TRAINING_AT_MOST = 200, 20_000
SEALED_BEFORE_TRAINING = 500
"""The sealed part gets these before any are trained on; of more, half: a student loses some answers, and many must show how few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Example indices: for ranges, for choosing recipes, for the one final verdict, and for training."""

    calibration: tuple[int, ...]
    search: tuple[int, ...]
    sealed: tuple[int, ...]
    training: tuple[int, ...] = ()


def split_by_content(digests: Sequence[str], *, sealed_at_most: int, steps: int = 1, with_training: bool = False) -> Split:
    """The split of examples with these content digests; it depends on contents, not on their order.

    An example that occurs twice is used once. The sealed part gets 381 as soon as there are enough examples, at most
    ``sealed_at_most``; calibration at most 60 and search at most 200. With ``steps``, streams of so many consecutive examples
    are divided as wholes: the counts are of streams (``sealed_at_most`` of examples), the indices follow stream by stream.

    ``with_training`` leaves what the sealed part does not take to training, at least half when there are more than 500 to seal;
    fewer than 200 examples train nothing and stay sealed. Streams have no training part.
    """
    if steps > 1:
        return _of_streams(split_by_content(stream_digests(digests, steps), sealed_at_most=max(1, sealed_at_most // steps)), steps)
    first: dict[str, int] = {}
    for index, digest in enumerate(digests):
        first.setdefault(digest, index)
    order = [first[digest] for digest in sorted(first)]
    calibration, search = _sizes(len(order), sealed_at_most)
    rest = order[calibration + search :]
    sealed, training = _judging_and_training(len(rest), sealed_at_most) if with_training else (max(0, sealed_at_most), 0)
    return Split(
        calibration=tuple(order[:calibration]),
        search=tuple(order[calibration : calibration + search]),
        sealed=tuple(rest[:sealed]),
        training=tuple(rest[sealed : sealed + training]),
    )


def _judging_and_training(rest: int, sealed_at_most: int) -> tuple[int, int]:
    """Sizes of the sealed and of the training part among so many examples."""
    wanted = max(0, sealed_at_most)
    sealed = min(wanted, max(SEALED_BEFORE_TRAINING, rest // 2))
    training = min(TRAINING_AT_MOST, rest - sealed)
    return (sealed, training) if training >= TRAINING_AT_LEAST else (wanted, 0)


def _of_streams(streams: Split, steps: int) -> Split:
    def members(chosen: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(index for stream in chosen for index in range(stream * steps, (stream + 1) * steps))

    return Split(calibration=members(streams.calibration), search=members(streams.search), sealed=members(streams.sealed))


def _sizes(n: int, sealed_at_most: int) -> tuple[int, int]:
    """Sizes of calibration and search; the rest is sealed. One or two examples leave calibration out."""
    if n < 3:
        return 0, min(n, 1)
    spare = n - min(SEALED_FLOOR, sealed_at_most)
    calibration = min(CALIBRATION_AT_MOST, max(1, round(CALIBRATION_SHARE * n)))
    search = min(SEARCH_AT_MOST, max(1, round(SEARCH_SHARE * n)))
    if n - calibration - search < min(SEALED_FLOOR, sealed_at_most) and spare >= 16:
        calibration = max(1, spare // 4)
        search = spare - calibration
    return calibration, search
