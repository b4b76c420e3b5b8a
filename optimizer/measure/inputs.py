"""The inputs of an experiment: real if the team uploaded some, else a shipped corpus that fits, else synthetic.

The source decides what may win (measurement.md 9).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import InputError
from optimizer.formats.bindings import bound_shapes
from optimizer.measure.input_files import (
    ARRAYS,
    DESCRIPTION,
    LABEL,
    example_digests,
    load_feeds,
    load_label,
    read_digests,
    write_arrays,
    write_digests,
)
from optimizer.measure.proxy_inputs import proxy_for
from optimizer.measure.real_inputs import real_arrays
from optimizer.measure.split import Split, split_by_content
from optimizer.measure.streams import stream_steps
from optimizer.measure.synthetic import Shapes, synthetic_feeds
from optimizer.specs import InputSource, ModelCard, SearchSpec
from optimizer.units import MIB

PROXY_EXAMPLES, PROXY_BYTES = 1_024, 256 * MIB
SYNTHETIC_EXAMPLES, SYNTHETIC_BYTES = 128, 256 * MIB
FEWEST = 8

Array = np.ndarray[Any, Any]
__all__ = ["ARRAYS", "InputSet", "Split", "bound_shapes", "load_feeds", "load_inputs", "load_label", "prepare_inputs", "split"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSet:
    """Examples on disk: ``folder/inputs.npz`` holds one array per model input, shape [n, *shapes[input]], and maybe ``label`` [n].

    ``shapes`` are the bound input shapes of one call and hold for the whole experiment; a dataset may have decided them.
    ``digest`` covers the contents of all examples. ``stream_steps`` consecutive examples are one stream of a model with state.
    """

    folder: Path
    source: InputSource
    n: int
    digest: str
    has_labels: bool = False
    metric: str = ""
    description: str = ""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    stream_steps: int = 1


def prepare_inputs(card: ModelCard, *, spec: SearchSpec, dataset: Path | None, folder: Path, metric: str = "") -> InputSet:
    """Write the input set of an experiment into ``folder``.

    ``dataset`` is an .npz of arrays named after the model's inputs. It holds bytes of any origin: call this in a sandboxed child
    (``optimizer.measure.inputs_child:prepare``). ``metric`` names what labels are judged by.
    Raises InputError ``input.*`` and, for a broken dataset, ``npz.*`` and ``zip.*``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(tensor.name == LABEL for tensor in card.inputs):
        raise InputError("input.refused", f"An input named {LABEL!r} cannot be told from labels; rename it in the model.")
    if dataset is not None:
        real = real_arrays(card, spec=spec, dataset=dataset)
        labelled = LABEL in real.arrays
        described = InputSet(
            folder=folder, source=InputSource.REAL, n=0, digest="", has_labels=labelled, metric=(metric or "top1") if labelled else "",
            description=real.description, shapes=real.shapes, warnings=real.warnings,
        )  # fmt: skip
        return _stored(card, described, real.arrays)
    shapes = bound_shapes(card, spec.widest)
    proxy = proxy_for(card, shapes, seed=spec.seed)
    if proxy.examples is not None:
        arrays = _gathered(proxy.examples, at_most=_count(shapes, PROXY_EXAMPLES, PROXY_BYTES))
        found = InputSet(folder=folder, source=InputSource.PROXY, n=0, digest="", description=proxy.description, shapes=shapes)
        return _stored(card, found, arrays)
    return _synthetic(card, shapes, seed=spec.seed, folder=folder, why=proxy.description)


def _synthetic(card: ModelCard, shapes: Shapes, *, seed: int, folder: Path, why: str) -> InputSet:
    count = _count(shapes, SYNTHETIC_EXAMPLES, SYNTHETIC_BYTES)
    arrays = _gathered((synthetic_feeds(card, shapes, seed=seed, index=index) for index in range(count)), at_most=count)
    description = "random tensors of the model's input shapes"
    made = InputSet(
        folder=folder, source=InputSource.SYNTHETIC, n=0, digest="", description=description, shapes=shapes, warnings=(why,) if why else ()
    )
    return _stored(card, made, arrays)


def _count(shapes: Shapes, most: int, byte_cap: int) -> int:
    """How many examples fit: at 8 bytes a value for safety, never fewer than a handful."""
    values = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    return max(FEWEST, min(most, byte_cap // max(1, 4 * values)))


def _gathered(examples: Iterable[Mapping[str, Array]], *, at_most: int) -> dict[str, Array]:
    """Stack examples, input by input."""
    rows: dict[str, list[Array]] = {}
    for index, example in enumerate(examples):
        if index == at_most:
            break
        for name, value in example.items():
            rows.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in rows.items()}


def _stored(card: ModelCard, inputs: InputSet, arrays: dict[str, Array]) -> InputSet:
    """Write arrays, digests and description."""
    write_arrays(inputs.folder, arrays)
    digests = example_digests({name: array for name, array in arrays.items() if name in inputs.shapes})
    digest = write_digests(inputs.folder, digests)
    stored = replace(inputs, n=len(digests), digest=digest, stream_steps=stream_steps(card, len(digests)))
    (inputs.folder / DESCRIPTION).write_text(json.dumps(to_jsonable(stored)))
    return stored


def load_inputs(folder: Path) -> InputSet:
    """The input set in ``folder``, wherever it was made. Raises InputError ``input.unreadable``."""
    try:
        described = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError):
        raise InputError("input.unreadable", f"There is no readable input set in {folder.name!r}; prepare the inputs again.") from None
    return replace(from_jsonable(InputSet, described), folder=folder)


def split(inputs: InputSet, *, sealed_at_most: int, with_training: bool = False) -> Split:
    """The disjoint parts of the examples (see ``split_by_content``)."""
    digests = read_digests(inputs.folder)
    return split_by_content(digests, sealed_at_most=sealed_at_most, steps=inputs.stream_steps, with_training=with_training)
