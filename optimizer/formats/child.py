"""Entry functions of the sandboxed ingest child: bytes in, one bounded JSON out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimizer.codec import to_jsonable
from optimizer.errors import InputError
from optimizer.formats.inspection import inspect_model
from optimizer.formats.npz_reader import ArraySpec, read_npz
from optimizer.formats.prepare import prepare
from optimizer.formats.refusals import refusal
from optimizer.formats.sniff import FileKind, check_name, sniff
from optimizer.sandbox.job import Level

if TYPE_CHECKING:
    from optimizer.sandbox import ChildContext

LABEL = "label"


def ingest_model(context: ChildContext) -> dict[str, Any]:
    """Inspect the bind ``upload``; the folder for loaders is written to ``out_dir/model``.

    Params, all optional: ``bindings`` (symbol -> size), ``file_name`` (the name the user gave), ``beside`` (``upload`` is a folder
    that holds one model and its external data). Returns ``{"card": ...}``.
    Raises InputError with the codes of security.md 3.2 and 3.3.
    """
    params = context.params
    prepared = prepare(
        context.path("upload"),
        context.out_dir / "model",
        file_name=params.get("file_name") or "",
        beside=bool(params.get("beside")),
        unpickle=context.level == Level.A,
    )
    card = inspect_model(prepared.entry, bindings=params.get("bindings") or {}, warnings=prepared.warnings)
    return {"card": to_jsonable(card)}


def ingest_dataset(context: ChildContext) -> dict[str, Any]:
    """Inspect the .npz bind ``upload``.

    Params: ``file_name``, optional. Returns ``{"card": {"arrays": {name: {"dtype", "shape"}}, "samples", "labels"}}``.
    Raises InputError ``npz.*``, ``zip.*``, ``format.*``, ``input.count``, ``input.empty``.
    """
    upload = context.path("upload")
    kind = sniff(upload)
    if kind is not FileKind.NPZ:
        raise _not_a_dataset(kind, context.params.get("file_name") or "")
    check_name(kind, context.params.get("file_name") or "")
    return {"card": dataset_card(read_npz(upload))}


def _not_a_dataset(kind: FileKind, file_name: str) -> InputError:
    if kind is FileKind.NPY:
        return InputError("format.not_dataset", "This is a single array; pack arrays named after the model's inputs with numpy.savez.")
    code = refusal(kind, file_name).code
    if kind in (FileKind.ONNX, FileKind.ZIP):
        return refusal(kind, file_name)
    return InputError(
        code,
        f"This is no dataset (found: {kind.replace('_', ' ')}); write one with numpy.savez(path, **arrays), named after the model's inputs.",
    )


def dataset_card(arrays: dict[str, ArraySpec]) -> dict[str, Any]:
    """Names, dtypes and shapes; ``samples`` is the common first dim.

    Raises InputError ``input.count`` when arrays differ in it, ``input.empty``.
    """
    counts = {name: array.shape[0] if array.shape else None for name, array in arrays.items()}
    samples = sample_count(counts)
    if samples == 0:
        raise InputError("input.empty", "The dataset holds no example; the first dimension of every array counts the examples.")
    return {
        "arrays": {name: {"dtype": array.dtype, "shape": list(array.shape)} for name, array in arrays.items()},
        "samples": samples,
        "labels": LABEL in arrays,
    }


def sample_count(counts: dict[str, int | None]) -> int:
    """The number of examples that all arrays agree on. Raises InputError ``input.count``."""
    distinct = set(counts.values())
    if len(distinct) != 1 or None in distinct:
        listed = ", ".join(f"{name[:60]}: {'scalar' if count is None else count}" for name, count in list(counts.items())[:8])
        raise InputError("input.count", f"Every array needs one row per example, equally many; found {listed}.")
    return distinct.pop() or 0
