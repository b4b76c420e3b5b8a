"""Inputs that the team uploaded: an .npz of arrays named after the model's inputs, checked against the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.errors import InputError
from optimizer.formats.bindings import bound_shapes
from optimizer.formats.child import sample_count
from optimizer.formats.npz_reader import ArraySpec, read_npz
from optimizer.measure.input_files import LABEL
from optimizer.measure.split import TRAINING_AT_MOST
from optimizer.measure.streams import examples_per_unit
from optimizer.measure.synthetic import steering_value
from optimizer.specs import ModelCard, SearchSpec, TensorSpec
from optimizer.units import GIB, MIB

MAX_BYTES = 2 * GIB
BEYOND_SEALED = 260
TRAINING_BYTES = 256 * MIB
"""Rows kept for passes that train take at most so much (at 4 bytes a value)."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealInputs:
    """Checked arrays by input name (and ``label``), the shapes they bind, and what was filled in."""

    arrays: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    description: str
    warnings: tuple[str, ...] = ()


def real_arrays(card: ModelCard, *, spec: SearchSpec, dataset: Path) -> RealInputs:
    """Load the dataset for this model. Sizes that ``spec.bindings`` leaves open are taken from the arrays.

    Raises InputError ``input.missing``, ``input.shape``, ``input.dtype``, ``input.count``, ``input.empty``, ``input.not_finite``,
    ``input.out_of_vocabulary``, ``input.label`` and those of ``read_npz`` and ``bound_shapes``.
    """
    specs = read_npz(dataset)
    given = _matched(card, specs)
    n = sample_count({name: spec_.shape[0] if spec_.shape else None for name, spec_ in {**given, **_labels(specs)}.items()})
    if n == 0:
        raise InputError("input.empty", "The dataset holds no example; the first dimension of every array counts the examples.")
    shapes = bound_shapes(card, {**_bindings(card, given), **spec.widest})
    per_feed = _calls_per_row(card, given, shapes)
    rows = _chosen_rows(n, per_feed=per_feed, spec=spec, shapes=shapes, together=per_feed * examples_per_unit(card))
    arrays: dict[str, Array] = {}
    with np.load(dataset, allow_pickle=False) as opened:
        for tensor in card.inputs:
            if tensor.name in given:
                arrays[tensor.name] = _checked(card, tensor, opened[given[tensor.name].name][rows], shapes[tensor.name])
        if LABEL in specs:
            arrays[LABEL] = _checked_labels(opened[LABEL][rows], per_feed)
    filled = _fill(card, shapes, arrays, count=len(rows) // per_feed)
    warnings = _warnings(card, specs, given, filled)
    return RealInputs(
        arrays=arrays, shapes=shapes, description=f"{len(rows) // per_feed:,} examples of the uploaded dataset", warnings=warnings
    )


def _labels(specs: Mapping[str, ArraySpec]) -> dict[str, ArraySpec]:
    return {LABEL: specs[LABEL]} if LABEL in specs else {}


def _matched(card: ModelCard, specs: Mapping[str, ArraySpec]) -> dict[str, ArraySpec]:
    """The array for each input; a single data input takes a single array of any name."""
    given = {tensor.name: specs[tensor.name] for tensor in card.inputs if tensor.name in specs}
    needed = [tensor for tensor in card.inputs if tensor.name not in given and not _steers(card, tensor)]
    spare = [spec for name, spec in specs.items() if name not in given and name != LABEL]
    if len(needed) == 1 and len(spare) == 1 and not any(not _steers(card, tensor) for tensor in card.inputs if tensor.name in given):
        given[needed[0].name] = spare[0]
        needed = []
    if needed:
        have = ", ".join(sorted(specs)[:8])
        raise InputError(
            "input.missing", f"The dataset has no array for {_expectation(needed[0])}; it has: {have}. Name each array after its input."
        )
    return given


def _steers(card: ModelCard, tensor: TensorSpec) -> bool:
    """Inputs that can be filled in when the dataset leaves them out; a mask cannot, for it says which values count."""
    unit = {other.name: tuple(1 for _ in other.shape) for other in card.inputs}
    return "mask" not in tensor.name.lower() and tensor.ranked and steering_value(card, tensor, unit) is not None


def _expectation(tensor: TensorSpec) -> str:
    dims = ", ".join(["n", *(str(dim) for dim in tensor.shape)])
    return f"input {tensor.name!r} ({tensor.dtype}, shape [{dims}])"


def _bindings(card: ModelCard, given: Mapping[str, ArraySpec]) -> dict[str, int]:
    """Sizes of symbols as the arrays have them. An array without the model's leading dim speaks only of the others."""
    found: dict[str, int] = {}
    for tensor in card.inputs:
        array = given.get(tensor.name)
        if array is None:
            continue
        dims, sizes = tensor.shape, array.shape[1:]
        if len(sizes) == len(dims) - 1:
            dims = dims[1:]
        if len(sizes) != len(dims):
            raise _shape_error(tensor, array)
        for dim, size in zip(dims, sizes, strict=True):
            if isinstance(dim, str) and found.setdefault(dim, size) != size:
                raise InputError("input.shape", f"The dataset gives {dim!r} two sizes, {found[dim]} and {size} (at input {tensor.name!r}).")
            if isinstance(dim, int) and dim != size:
                raise _shape_error(tensor, array)
    return {dim: size for dim, size in found.items() if dim in card.symbols and size > 0}


def _shape_error(tensor: TensorSpec, array: ArraySpec, *, bound: tuple[int, ...] | None = None) -> InputError:
    sizes = f" with sizes bound to {list(bound)}" if bound is not None else ""
    return InputError(
        "input.shape",
        f"The array {array.name!r} has shape {list(array.shape)}; {_expectation(tensor)}{sizes} is expected, n being the number of examples.",
    )


def _calls_per_row(card: ModelCard, given: Mapping[str, ArraySpec], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many rows make one call: 1, or the bound batch when rows are single items."""
    counts = set()
    for tensor in card.inputs:
        if tensor.name in given:
            sizes, shape = given[tensor.name].shape[1:], shapes[tensor.name]
            if sizes == shape:
                counts.add(1)
            elif sizes == shape[1:]:
                counts.add(shape[0])
            else:
                raise _shape_error(tensor, given[tensor.name], bound=shape)
    if len(counts) > 1:
        raise InputError("input.shape", "Some arrays hold whole batches per row and others single items; give all of them the same layout.")
    return counts.pop() if counts else 1


def _chosen_rows(n: int, *, per_feed: int, spec: SearchSpec, shapes: Mapping[str, tuple[int, ...]], together: int) -> Array:
    """Row numbers to use, in order: all, or a seeded choice when there are more than the budget, training and the disk can use.

    Of more rows than that, so many as are ``together`` stay together: the steps of a stream, which nothing trains on.
    """
    values = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    trained_on = 0 if together > per_feed else min(TRAINING_AT_MOST, TRAINING_BYTES // max(1, 4 * values))
    wanted = spec.budget.accuracy_examples_most + BEYOND_SEALED + trained_on
    feeds = min(n // per_feed, wanted, max(1, MAX_BYTES // max(1, 8 * values)))
    if feeds == 0:
        raise InputError("input.empty", f"The dataset has {n} rows, fewer than one batch of {per_feed}; add rows or bind a smaller batch.")
    if feeds * per_feed == n:
        return np.arange(n)
    groups = feeds * per_feed // together
    if groups == 0:
        return np.arange(feeds * per_feed)
    chosen = np.sort(np.random.default_rng(spec.seed).choice(n // together, groups, replace=False))
    return np.asarray((chosen[:, None] * together + np.arange(together)).ravel())


def _checked(card: ModelCard, tensor: TensorSpec, array: Array, shape: tuple[int, ...]) -> Array:
    if tensor.dtype == "string":
        if array.dtype.kind not in "SU":
            raise _dtype_error(tensor, array)
        return _text(tensor, array).reshape(-1, *shape)
    wanted = np.dtype(tensor.dtype)
    if array.dtype.kind in "SU" or not (np.can_cast(array.dtype, wanted, "same_kind") or _integers_fit(array, wanted)):
        raise _dtype_error(tensor, array)
    with np.errstate(over="ignore"):
        cast = array.astype(wanted)
    if cast.dtype.kind == "f" and not np.isfinite(cast).all():
        row = int(np.argwhere(~np.isfinite(cast))[0][0])
        raise InputError(
            "input.not_finite", f"The array for input {tensor.name!r} holds NaN or infinity (first in row {row}); clean the dataset."
        )
    rows = card.vocabularies.get(tensor.name)
    if rows is not None and cast.size and (cast.min() < 0 or cast.max() >= rows):
        bad = int(cast.min() if cast.min() < 0 else cast.max())
        raise InputError(
            "input.out_of_vocabulary",
            f"Input {tensor.name!r} holds the value {bad}; the model's table has rows 0 to {rows - 1}. Use its own tokenizer.",
        )
    return cast.reshape(-1, *shape)


def _text(tensor: TensorSpec, array: Array) -> Array:
    if array.dtype.kind == "U":
        return array
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError:
        raise InputError("input.dtype", f"The array for input {tensor.name!r} holds bytes that are not UTF-8 text.") from None


def _integers_fit(array: Array, wanted: np.dtype[Any]) -> bool:
    """Integers of another signedness whose values all fit."""
    if array.dtype.kind not in "iu" or wanted.kind not in "iu" or not array.size:
        return False
    limits = np.iinfo(wanted)
    return int(array.min()) >= limits.min and int(array.max()) <= limits.max


def _dtype_error(tensor: TensorSpec, array: Array) -> InputError:
    return InputError(
        "input.dtype", f"The array for input {tensor.name!r} is {array.dtype}; {tensor.dtype} is expected. Convert it with array.astype."
    )


def _checked_labels(labels: Array, per_feed: int) -> Array:
    if labels.ndim != 1 or per_feed != 1:
        raise InputError("input.label", f"The array {LABEL!r} must hold one label per example (shape [n]), with a batch of 1.")
    return labels


def _fill(card: ModelCard, shapes: dict[str, tuple[int, ...]], arrays: dict[str, Array], *, count: int) -> list[str]:
    """Add the inputs that follow from the others; returns their names."""
    filled = []
    for tensor in card.inputs:
        value = None if tensor.name in arrays else steering_value(card, tensor, shapes)
        if value is not None:
            arrays[tensor.name] = np.broadcast_to(value, (count, *value.shape)).copy()
            filled.append(tensor.name)
    return filled


def _warnings(card: ModelCard, specs: Mapping[str, ArraySpec], given: Mapping[str, ArraySpec], filled: list[str]) -> tuple[str, ...]:
    used = {spec.name for spec in given.values()} | {LABEL}
    unused = sorted(name for name in specs if name not in used)
    renamed = [f"The array {spec.name!r} was taken for input {name!r}." for name, spec in given.items() if spec.name != name]
    notes = [f"The dataset does not give {', '.join(filled)}; default values are used."] if filled else []
    notes += [f"Arrays that the model does not read were left out: {', '.join(unused[:8])}."] if unused else []
    return tuple(renamed + notes)
