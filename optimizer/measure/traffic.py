"""A histogram of request shapes: examples cut to each bucket's shapes, and a sequence of calls that follows the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizer.errors import InputError
from optimizer.formats.bindings import bound_shapes
from optimizer.specs import ModelCard, SearchSpec

OPEN = -1
"""A dim that differs between buckets, for a session that serves all of them."""

Array = np.ndarray[Any, Any]
Example = Mapping[str, Array]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One bar of the histogram: its share of all calls and the input shapes of each."""

    share: float
    shapes: Shapes


def buckets_of(card: ModelCard, spec: SearchSpec) -> tuple[Bucket, ...]:
    """The buckets in the order of ``spec.traffic``, shares adding up to one; empty without traffic.

    Raises InputError ``traffic.batch`` and those of ``bound_shapes``.
    """
    buckets = tuple(
        Bucket(share=share, shapes=bound_shapes(card, {**spec.bindings, **one.bindings}))
        for one, share in zip(spec.traffic, spec.shares, strict=True)
    )
    for name in buckets[0].shapes if buckets else ():
        if len({one.shapes[name][:1] for one in buckets}) > 1:
            raise InputError(
                "traffic.batch",
                f"Traffic changes the first dimension of input {name!r}, the batch, which is measured at one size: bind that size, and list "
                "the other dimensions in the histogram.",
            )
    return buckets


def open_shapes(buckets: Sequence[Bucket]) -> Shapes:
    """Shapes of a session for every bucket: what differs is open."""
    return {
        name: tuple(
            sizes.pop() if len(sizes) == 1 else OPEN for sizes in map(set, zip(*(one.shapes[name] for one in buckets), strict=True))
        )
        for name in buckets[0].shapes
    }


def cut(example: Example, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The leading part of every input, contiguous."""
    return {name: np.ascontiguousarray(array[tuple(slice(size) for size in shapes[name])]) for name, array in example.items()}


def holds(example: Example, shapes: Mapping[str, tuple[int, ...]]) -> bool | None:
    """Whether cutting drops only padding, as the example's masks tell; None for a model without a mask."""
    masks = {name: array for name, array in example.items() if "mask" in name.lower() and array.dtype.kind in "iub"}
    if not masks:
        return None
    return all(np.count_nonzero(array) == np.count_nonzero(cut({name: array}, shapes)[name]) for name, array in masks.items())


def placed(examples: Sequence[Example], buckets: Sequence[Bucket]) -> list[int]:
    """The bucket of each example: the smallest that holds its text, else in turns by the shares."""
    by_size = sorted(range(len(buckets)), key=lambda index: _values(buckets[index]))
    turns = in_turns([one.share for one in buckets], len(examples))
    return [
        next((index for index in by_size if holds(one, buckets[index].shapes)), turn) for one, turn in zip(examples, turns, strict=True)
    ]


def pools(examples: Sequence[Example], buckets: Sequence[Bucket]) -> list[list[dict[str, Array]]]:
    """Examples of every bucket in its shapes: those of that length; where there is none, all of them cut to it."""
    places = placed(examples, buckets)
    found = []
    for index, bucket in enumerate(buckets):
        own = [one for one, place in zip(examples, places, strict=True) if place == index]
        found.append([cut(one, bucket.shapes) for one in own or examples])
    return found


def in_turns(shares: Sequence[float], length: int) -> list[int]:
    """Bucket numbers such that every stretch holds each as often as its share says, to within one (smooth weighted round robin)."""
    credit, numbers = [0.0] * len(shares), range(len(shares))
    order = []
    for _ in range(length):
        credit = [had + share for had, share in zip(credit, shares, strict=True)]
        best = max(numbers, key=credit.__getitem__)
        credit[best] -= 1
        order.append(best)
    return order


def mixed_order(groups: Sequence[tuple[int, float]], *, seed: int, length: int) -> list[int]:
    """Input numbers of a mix: ``groups`` are (inputs, share) of consecutive numbers; which input of a group comes is drawn by seed."""
    rng = np.random.default_rng([seed, 0])
    counts = np.array([count for count, _ in groups], np.int64)
    begin = int(rng.integers(length))
    turns = in_turns([share for _, share in groups], begin + length)[begin:]
    numbers: list[int] = ((np.cumsum(counts) - counts)[turns] + rng.integers(0, counts[turns])).tolist()
    return numbers


def groups_of(numbers: Sequence[int], groups: Sequence[tuple[int, float]]) -> Array:
    """The group of each input number."""
    ends = np.cumsum([count for count, _ in groups])
    return np.searchsorted(ends, np.asarray(numbers, np.int64), side="right").astype(np.int64)


def _values(bucket: Bucket) -> int:
    return sum(int(np.prod(shape, dtype=np.int64)) for shape in bucket.shapes.values())
