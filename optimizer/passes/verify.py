"""Proof that a rewrite which must not change the outputs did not: both graphs run side by side on the same inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from optimizer.ort import load_onnxruntime
from optimizer.passes.base import PassContext
from optimizer.passes.errors import ChangedOutputs, PassFailed
from optimizer.passes.examples import Feeds, calibration_feeds, synthetic_feeds
from optimizer.rounding import agrees_to_rounding, is_float, largest_difference

VERIFIED_EXAMPLES = 8


def verify_rewrite(source: Path, rewritten: Path, context: PassContext) -> dict[str, Any]:
    """Facts of the comparison (largest difference, examples, their origin).

    Runs ONNX Runtime with its own graph optimizations off, so that only the rewrite is under test. A model that draws random
    numbers is compared by nothing and says so. Raises ``pass.changed_outputs``, ``pass.failed`` when a graph does not run.
    """
    if context.card.random:
        return {"verified": False, "why": "the model draws random numbers"}
    feeds = list(calibration_feeds(context, at_most=VERIFIED_EXAMPLES))
    origin = "calibration" if feeds else "synthetic"
    feeds = feeds or list(synthetic_feeds(context))
    largest = largest_disagreement(outputs_of(source, feeds, what="The original"), outputs_of(rewritten, feeds, what="The rewritten model"))
    return {"verified": True, "examples": len(feeds), "inputs": origin, "largest_difference": largest}


def outputs_of(model: Path, feeds: list[Feeds], *, what: str) -> list[list[np.ndarray[Any, Any]]]:
    """Outputs of the graph as it is written, per example. Raises ``pass.failed``; ``what`` begins its sentence."""
    try:
        session = plain_session(model)
        return [session.run(None, example) for example in feeds]
    except Exception as error:  # the runtime's exceptions share no base class
        raise PassFailed(f"{what} does not run, so the rewrite cannot be verified: {' '.join(str(error).split())[:300]}") from error


def plain_session(model: Path) -> Any:
    """A session that executes the graph as it is written."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def largest_disagreement(before: list[list[np.ndarray[Any, Any]]], after: list[list[np.ndarray[Any, Any]]]) -> float:
    """Largest difference of any output. Raises ``pass.changed_outputs`` when one does not agree to rounding."""
    largest = 0.0
    for ours, theirs in zip(before, after, strict=True):
        if len(ours) != len(theirs):
            raise ChangedOutputs(f"The rewrite changed the number of outputs from {len(ours)} to {len(theirs)}.")
        for index, (reference, candidate) in enumerate(zip(ours, theirs, strict=True)):
            if not agrees_to_rounding(reference, candidate):
                raise ChangedOutputs(_sentence(index, reference, candidate))
            if is_float(reference) and np.isfinite(reference).all():
                largest = max(largest, largest_difference(reference, candidate))
    return largest


def _sentence(index: int, reference: np.ndarray[Any, Any], candidate: np.ndarray[Any, Any]) -> str:
    if reference.shape != candidate.shape:
        return f"The rewrite changed the shape of output {index} from {list(reference.shape)} to {list(candidate.shape)}; it is discarded."
    return f"The rewrite changed output {index} by up to {largest_difference(reference, candidate):.3g}; it is discarded."
