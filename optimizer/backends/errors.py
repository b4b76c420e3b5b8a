"""What a backend refuses and why: stable codes, each with a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optimizer.errors import EngineFault, InputError
from optimizer.specs import TensorSpec


class Unsupported(InputError):
    """The runtime does not know an operator, a type or a shape of the model; the message names it."""

    def __init__(self, message: str) -> None:
        super().__init__("backend.unsupported", message)


class LoadFailed(InputError):
    """The runtime could not load the model for another reason."""

    def __init__(self, message: str) -> None:
        super().__init__("backend.load_failed", message)


class InputRefused(InputError):
    """The model refuses the feeds; the message says what it expects."""

    def __init__(self, message: str) -> None:
        super().__init__("backend.input_refused", message)


class RunFailed(InputError):
    """The model loaded and took its inputs, then failed while running; the message names the node where the runtime does."""

    def __init__(self, message: str) -> None:
        super().__init__("backend.run_failed", message)


class SettingRefused(InputError):
    """A setting that this runtime cannot honour; nothing is ignored silently."""

    def __init__(self, message: str) -> None:
        super().__init__("backend.setting_refused", message)


class BackendMissing(EngineFault):
    """The runtime is not installed here; the message says how to install it."""

    def __init__(self, message: str) -> None:
        super().__init__("backend.missing", message)


def describe(tensors: Sequence[TensorSpec]) -> str:
    """``name dtype [shape]`` of each tensor, as a person reads it."""
    return ", ".join(f"{tensor.name} {tensor.dtype} {_shape(tensor.shape)}" for tensor in tensors) or "no inputs"


def _shape(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def check_shapes(inputs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ``backend.input_refused`` when a bound shape contradicts what the model declares."""
    declared = {tensor.name: tensor for tensor in inputs}
    for name, shape in shapes.items():
        if name not in declared:
            raise InputRefused(f"The model has no input named {name!r}; it takes {describe(inputs)}.")
        if not _fits(declared[name].shape, shape):
            raise InputRefused(f"Input {name!r} was bound to {_shape(shape)}, but the model takes {describe([declared[name]])}.")


def _fits(declared: Sequence[int | str | None], bound: Sequence[int]) -> bool:
    return len(declared) == len(bound) and all(not isinstance(dim, int) or dim == size for dim, size in zip(declared, bound, strict=True))


def explain_feeds(inputs: Sequence[TensorSpec], feeds: Mapping[str, object]) -> str | None:
    """Why these feeds do not fit the declared inputs, or None when they do; called only after a run was refused."""
    declared = {tensor.name: tensor for tensor in inputs}
    missing = sorted(set(declared) - set(feeds))
    if missing:
        return f"Input {missing[0]!r} is missing; the model takes {describe(inputs)}."
    for name, array in feeds.items():
        if name not in declared:
            return f"The model has no input named {name!r}; it takes {describe(inputs)}."
        reason = _mismatch(declared[name], array)
        if reason:
            return reason
    return None


def _mismatch(tensor: TensorSpec, array: object) -> str | None:
    if not isinstance(array, np.ndarray):
        return f"Input {tensor.name!r} must be a numpy array, not {type(array).__name__}."
    is_text = array.dtype.kind in "USO"
    if (tensor.dtype == "string") != is_text or not (is_text or array.dtype == numpy_dtype(tensor.dtype)):
        return f"Input {tensor.name!r} has dtype {array.dtype}, but the model takes {describe([tensor])}."
    if not _fits(tensor.shape, array.shape):
        return f"Input {tensor.name!r} has shape {_shape(array.shape)}, but the model takes {describe([tensor])}."
    return None


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of a TensorSpec name, the half-size floats of ``ml_dtypes`` included."""
    if not hasattr(np, name):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name, name))
    return np.dtype(name)
