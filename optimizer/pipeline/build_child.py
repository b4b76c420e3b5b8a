"""Child entry that builds a recipe's model: the passes' own entry, with an evaluator for those that try forms before they decide."""

from __future__ import annotations

from typing import Any

from optimizer.codec import from_jsonable
from optimizer.measure.child import read_feeds
from optimizer.passes.child import MODEL_FOLDER
from optimizer.passes.child import apply_recipe as apply_passes
from optimizer.pipeline.evaluating import ModelEvaluator, Yardstick
from optimizer.sandbox.context import ChildContext


def apply_recipe(context: ChildContext) -> dict[str, Any]:
    """As ``optimizer.passes.child:apply_recipe``; params ``yardstick backend names indices`` and bind ``inputs`` (InputSet folder)
    make the evaluator.
    """
    return apply_passes(context, evaluator=_evaluator(context) if context.params.get("yardstick") else None)


def _evaluator(context: ChildContext) -> ModelEvaluator:
    params = context.params
    return ModelEvaluator(
        source=context.path(MODEL_FOLDER) / params["entry"],
        runtime=params["backend"],
        yardstick=from_jsonable(Yardstick, params["yardstick"]),
        feeds=read_feeds(context, names=params["names"], indices=params["indices"]),
        shapes={name: tuple(shape) for name, shape in (params.get("shapes") or {}).items()},
        work_dir=context.out_dir / "evaluations",
    )
