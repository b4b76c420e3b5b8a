"""Sizes for the symbolic dims of a model's inputs: what the user bound, else sensible defaults."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from optimizer.errors import InputError
from optimizer.formats.ocr import ocr_stage
from optimizer.formats.roles import InputRole, role_of
from optimizer.specs import ModelCard, TensorSpec

BATCH, SEQUENCE, PAST, IMAGE, VOLUME, AUDIO_SAMPLES, STREAM_SAMPLES = 1, 128, 16, 224, 32, 16_000, 576
MAX_SIZE = 1 << 24
MAX_ELEMENTS = 1 << 28
SUM = re.compile(r"\s*\+\s*")
NAMED: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"batch|^n$|^b$|^bs$"), BATCH),
    (re.compile(r"past"), PAST),
    (re.compile(r"seq|token|len|time|^t$|^s$"), SEQUENCE),
)


def anonymous(dim: int | str | None) -> bool:
    """True for dims that neither have a size nor a usable name."""
    return dim is None or (isinstance(dim, int) and dim <= 0) or dim in ("", "?", "-1", "None")


def named_dims(name: str, dims: tuple[int | str | None, ...]) -> tuple[int | str | None, ...]:
    """Dims of an input, where those without a name get the one of their place: ``x[2]``."""
    return tuple(f"{name}[{axis}]" if anonymous(dim) else dim for axis, dim in enumerate(dims))


def matching_symbol(name: str, symbols: Sequence[str]) -> str:
    """The symbol of that name, or the only one whose name contains it. Raises InputError ``input.refused``."""
    wanted = name.strip()
    matching = [wanted] if wanted in symbols else [one for one in symbols if wanted and wanted.lower() in one.lower()]
    if len(matching) != 1:
        listed = ", ".join(symbols) or "none"
        raise InputError("input.refused", f"{wanted!r} names {len(matching)} of the model's open dimensions; it has: {listed}.")
    return matching[0]


def bound_shapes(card: ModelCard, bindings: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every input once its symbols are bound; what ``bindings`` leaves open takes a default.

    Raises InputError ``input.refused`` (a symbol the model does not have, a size that cannot be, an input that cannot be fed),
    ``input.unbound`` (an input that declares no shape).
    """
    resolved = resolved_bindings(card, bindings)
    shapes = {tensor.name: _shape(tensor, resolved) for tensor in card.inputs}
    for name, shape in shapes.items():
        if math.prod(shape) > MAX_ELEMENTS:
            raise InputError(
                "input.refused",
                f"Input {name!r} would have the shape {list(shape)}, more than {MAX_ELEMENTS:,} values; bind smaller sizes.",
            )
    return shapes


def resolved_bindings(card: ModelCard, bindings: Mapping[str, int]) -> dict[str, int]:
    """A size for every symbol of the inputs. Raises InputError ``input.refused``, ``input.unbound``."""
    _check_inputs(card)
    known = set(card.symbols) | {term for symbol in card.symbols for term in SUM.split(symbol)}
    for symbol, size in bindings.items():
        if symbol not in known:
            listed = ", ".join(sorted(card.symbols)) or "none, its shapes are fixed"
            raise InputError("input.refused", f"The model has no dimension {symbol!r}; it has: {listed}.")
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
            raise InputError("input.refused", f"The dimension {symbol!r} must be a whole number from 1 to {MAX_SIZE:,}, not {size!r}.")
    defaults = _defaults(card)
    resolved = {**defaults, **bindings}
    for symbol in card.symbols:
        terms = SUM.split(symbol)
        if symbol not in bindings and len(terms) > 1:
            resolved[symbol] = sum(int(term) if term.isdecimal() else resolved.get(term, _named(term) or SEQUENCE) for term in terms)
    return {symbol: resolved[symbol] for symbol in card.symbols}


def _check_inputs(card: ModelCard) -> None:
    for tensor in card.inputs:
        if role_of(card, tensor) is InputRole.UNFEEDABLE:
            raise InputError(
                "input.refused",
                f"Input {tensor.name!r} is of type {tensor.dtype or 'unknown'}, which cannot be fed; export the model with tensor inputs.",
            )
        if not tensor.ranked:
            raise InputError("input.unbound", f"Input {tensor.name!r} declares no shape; export the model with the shapes of its inputs.")


def _shape(tensor: TensorSpec, resolved: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(resolved[dim] if isinstance(dim, str) else int(dim or 0) for dim in tensor.shape)


def _defaults(card: ModelCard) -> dict[str, int]:
    """The first input that says something of a symbol decides; inputs with a clear role come first."""
    defaults: dict[str, int] = {}
    roles = {tensor.name: role_of(card, tensor) for tensor in card.inputs}
    vague = (InputRole.STATE, InputRole.NUMBER, InputRole.INTEGER)
    for tensor in sorted(card.inputs, key=lambda tensor: roles[tensor.name] in vague):
        for axis, dim in enumerate(tensor.shape):
            if isinstance(dim, str):
                defaults.setdefault(dim, _default(card, tensor, role=roles[tensor.name], axis=axis, symbol=dim))
    return defaults


def _default(card: ModelCard, tensor: TensorSpec, *, role: InputRole, axis: int, symbol: str) -> int:
    rank = len(tensor.shape)
    if role.is_image and axis > 0:
        return _image_size(card, tensor, role=role, axis=axis)
    named = _named(symbol) if symbol != f"{tensor.name}[{axis}]" else None
    if named is not None:
        return named
    if role is InputRole.AUDIO and axis == rank - 1:
        return _audio_samples(card)
    if role is InputRole.STATE:
        return BATCH
    if axis == 0 and (rank > 1 or role is InputRole.NUMBER):
        return BATCH
    if rank == 2 and role is InputRole.NUMBER and card.state_pairs:
        return _audio_samples(card)
    return VOLUME if rank > 3 else SEQUENCE


def _audio_samples(card: ModelCard) -> int:
    """A second of 16 kHz audio; a streaming model takes the 36 ms step that voice detectors use."""
    return STREAM_SAMPLES if card.state_pairs else AUDIO_SAMPLES


def _image_size(card: ModelCard, tensor: TensorSpec, *, role: InputRole, axis: int) -> int:
    height, width = (2, 3) if role is InputRole.IMAGE_NCHW else (1, 2)
    stage = ocr_stage(card)
    if stage is not None:
        return stage.size[axis == width]
    other = tensor.shape[width if axis == height else height]
    return other if isinstance(other, int) and other > 0 else IMAGE


def _named(symbol: str) -> int | None:
    return next((size for pattern, size in NAMED if pattern.search(symbol.lower())), None)
