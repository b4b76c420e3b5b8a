"""Child entry that builds a recipe's model: the passes' own entry, with an evaluator for those that try forms before they decide."""

from __future__ import annotations

from typing import Any

import numpy as np

from optimizer.codec import from_jsonable
from optimizer.measure.input_files import ARRAYS
from optimizer.passes.child import MODEL_FOLDER
from optimizer.passes.child import apply_recipe as apply_passes
from optimizer.pipeline.evaluating import ModelEvaluator, Yardstick
from optimizer.sandbox.context import ChildContext
from optimizer.units import MIB

CHOOSING = "choosing"
MOST_BYTES = 256 * MIB
FEWEST = 24


def apply_recipe(context: ChildContext) -> dict[str, Any]:
    """As ``optimizer.passes.child:apply_recipe``; param ``yardstick`` and bind ``choosing`` (InputSet folder) make the evaluator."""
    return apply_passes(context, evaluator=_evaluator(context) if context.params.get("yardstick") else None)


def _evaluator(context: ChildContext) -> ModelEvaluator:
    params = context.params
    with np.load(context.path(CHOOSING) / ARRAYS, allow_pickle=False) as file:
        columns = {name: file[name] for name in params["card_inputs"]}
    count = min(len(column) for column in columns.values())
    each = sum(column[:1].nbytes for column in columns.values())
    count = min(count, max(FEWEST, MOST_BYTES // max(1, each)))
    feeds = [{name: np.ascontiguousarray(column[index]) for name, column in columns.items()} for index in range(count)]
    return ModelEvaluator(
        source=context.path(MODEL_FOLDER) / params["entry"],
        yardstick=from_jsonable(Yardstick, params["yardstick"]),
        feeds=feeds,
        shapes={name: tuple(shape) for name, shape in (params.get("shapes") or {}).items()},
        work_dir=context.out_dir / "evaluations",
    )
