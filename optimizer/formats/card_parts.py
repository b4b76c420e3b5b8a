"""What the cards of all formats share: digests, sizes of open dims, warnings of the model's nature."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from optimizer.errors import InputError
from optimizer.formats.bindings import bound_shapes, resolved_bindings
from optimizer.specs import ModelCard

MAX_TEXT = 1_024
MAX_OPERATORS = 1_000
MAX_WARNINGS = 50


def model_files(entry: Path, external: tuple[str, ...]) -> list[Path]:
    """The entry file and those it keeps weights in."""
    return [entry, *(entry.parent / name for name in external)]


def model_digest(entry: Path, external: tuple[str, ...]) -> str:
    """sha256 of the entry file; with external data, of the list of all files with theirs."""
    digests = [_file_digest(path) for path in model_files(entry, external)]
    if not external:
        return digests[0]
    lines = "".join(f"{digest}  {name}\n" for digest, name in zip(digests, ["", *external], strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bound_card(card: ModelCard, bindings: Mapping[str, int]) -> tuple[ModelCard, dict[str, tuple[int, ...]], list[str]]:
    """The card with its bindings and the input shapes; inputs that cannot be fed are a warning unless the caller bound something."""
    try:
        return replace(card, bindings=resolved_bindings(card, bindings)), bound_shapes(card, bindings), []
    except InputError as error:
        if bindings:
            raise
        return card, {}, [error.message]


def known_ports(card: ModelCard, rows: dict[str, int]) -> dict[str, int]:
    """The rows of names that are inputs of the card."""
    names = {tensor.name for tensor in card.inputs}
    return {name: count for name, count in rows.items() if name in names}


def trait_warnings(card: ModelCard) -> list[str]:
    """Sentences on what makes the model hard to compare or to improve."""
    notes = []
    if card.random:
        notes.append("The model draws random numbers: its outputs cannot be compared element by element.")
    if card.data_dependent_shapes:
        notes.append("The size of an output depends on the data: time varies with the inputs.")
    if card.quantized:
        notes.append("The model is already quantised: further quantisation brings little.")
    return notes
