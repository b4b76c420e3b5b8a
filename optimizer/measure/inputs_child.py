"""Entry function of the child that prepares inputs: it parses a dataset of any origin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import EngineError
from optimizer.measure.inputs import prepare_inputs
from optimizer.specs import ModelCard, SearchSpec

if TYPE_CHECKING:
    from optimizer.sandbox import ChildContext


def prepare(context: ChildContext) -> dict[str, Any]:
    """Write the input set to ``out_dir/inputs``; read it with ``optimizer.measure.inputs.load_inputs``.

    Params: ``card``, ``spec``, and ``metric`` (optional); bind ``dataset`` (optional). Returns ``{"inputs": ...}``.
    """
    card, spec = from_jsonable(ModelCard, context.params["card"]), from_jsonable(SearchSpec, context.params["spec"])
    made = prepare_inputs(
        card, spec=spec, dataset=_dataset(context), folder=context.out_dir / "inputs", metric=context.params.get("metric") or ""
    )
    return {"inputs": to_jsonable(made)}


def _dataset(context: ChildContext) -> Path | None:
    try:
        return context.path("dataset")
    except EngineError:
        return None
