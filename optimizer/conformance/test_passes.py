"""Every pass, on every kind of tiny model: it applies, or refuses with a reason; the source stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from optimizer.conformance import graphs, tiny_models
from optimizer.conformance import pass_models as models
from optimizer.errors import EngineError
from optimizer.measure.fidelity import compare_outputs
from optimizer.passes import No, Pass, broken_passes, passes
from optimizer.rounding import all_agree
from optimizer.specs import PassAccuracy, PassNeeds, PassScope, Precision, TaskKind

Builder = Callable[[Path], Path]
TABLE = passes()
ONNX_PASSES = {name: one for name, one in TABLE.items() if "onnx" in one.formats}
every_pass = pytest.mark.parametrize("one", TABLE.values(), ids=list(TABLE))
every_onnx_pass = pytest.mark.parametrize("one", ONNX_PASSES.values(), ids=list(ONNX_PASSES))

MODELS: dict[str, tuple[Builder, list[models.Feeds]]] = {
    "untidy": (models.untidy, models.normal_feeds("x", (2, 8))),
    "bias": (models.biased, models.normal_feeds("x", (2, 8))),
    "mlp": (tiny_models.mlp, models.normal_feeds("x", (1, 16))),
    "dynamic batch": (tiny_models.dynamic_batch, models.normal_feeds("x", (3, 16))),
    "conv": (tiny_models.conv, models.normal_feeds("image", (1, 3, 32, 32))),
    "zero initializers": (graphs.without_initializers, models.normal_feeds("x", (2, 4))),
    "encoder": (
        tiny_models.encoder,
        [{"input_ids": np.arange(7)[None] + i, "attention_mask": np.ones((1, 7), np.int64)} for i in range(4)],
    ),
    "old operator set": (models.old_conv, models.normal_feeds("image", (1, 3, 32, 32))),
    "one node": (tiny_models.identity, models.normal_feeds("x", (4,))),
    "control flow": (tiny_models.loop, models.normal_feeds("x", (1,))),
    "odd names": (graphs.odd_names, [{"serving default:0": np.ones((1, 3), np.float32), "вес.1": np.ones((1, 3), np.float32)}]),
    "function body": (tiny_models.with_function, models.normal_feeds("x", (1,))),
}


def runtime_of(entry: Path) -> str:
    return "onnxruntime" if entry.suffix == ".onnx" else "openvino"


def test_every_registered_pass_can_be_loaded() -> None:
    assert not broken_passes(), " ".join(broken_passes().values())


@every_pass
def test_the_taxonomy_is_declared(one: Pass) -> None:
    assert one.title
    assert one.family
    assert isinstance(one.scope, PassScope)
    assert isinstance(one.accuracy, PassAccuracy)
    assert isinstance(one.needs, PassNeeds)
    assert one.formats
    assert one.tools
    assert one.precisions <= set(Precision)


@every_onnx_pass
@pytest.mark.parametrize("kind", MODELS)
def test_a_pass_applies_or_refuses_and_leaves_the_source_alone(tmp_path: Path, one: Pass, kind: str) -> None:
    build, feeds = MODELS[kind]
    (tmp_path / "source").mkdir()
    model = build(tmp_path / "source" / "model.onnx")
    context = models.context_for(model, feeds, tmp_path / "work")
    before = models.folder_digest(tmp_path / "source")
    answer = one.applicable(context.card, context.hardware)
    if isinstance(answer, No):
        assert answer.reason
        return
    step = one.variants(context.card, context.hardware)[0]
    try:
        result = one.apply(model, tmp_path / "out", step.params, context)
    except EngineError as refusal:
        result = None
        assert refusal.code in {"pass.no_change", "pass.failed"}  # noqa: PT017 - both endings are right here
    assert models.folder_digest(tmp_path / "source") == before
    if result is None:
        return
    assert result.entry.is_relative_to(tmp_path / "out")
    if result.entry.suffix == ".onnx":
        onnx.checker.check_model(str(result.entry))
    reference, candidate = models.outputs_of(model, feeds), models.outputs_of(result.entry, feeds, name=runtime_of(result.entry))
    for ours, theirs in zip(reference, candidate, strict=True):
        assert [array.shape for array in ours] == [array.shape for array in theirs]
        if one.accuracy is PassAccuracy.INVARIANT:
            assert all_agree(ours, theirs)
    if one.accuracy is PassAccuracy.SENSITIVE:
        result_of_gate = compare_outputs(TaskKind.GENERIC, reference, candidate)
        assert not result_of_gate.invariant
        assert result_of_gate.finite


@every_onnx_pass
def test_a_pass_rewrites_one_of_the_models_or_is_skipped_with_its_reasons(tmp_path: Path, one: Pass) -> None:
    """A pass that this machine, or a suite without training data and evaluator, cannot try is seen as skipped."""
    reasons = []
    for number, kind in enumerate(MODELS):
        reasons.append(_refusal(one, kind, folder=tmp_path / str(number)))
        if not reasons[-1]:
            return
    pytest.skip(f"{one.name} was tried on none of the models: {'; '.join(dict.fromkeys(reasons))}")


def _refusal(one: Pass, kind: str, *, folder: Path) -> str:
    """Why the pass did not rewrite that model; empty when it did."""
    build, feeds = MODELS[kind]
    (folder / "source").mkdir(parents=True)
    model = build(folder / "source" / "model.onnx")
    context = models.context_for(model, feeds, folder / "work")
    answer = one.applicable(context.card, context.hardware)
    if isinstance(answer, No):
        return answer.reason
    try:
        one.apply(model, folder / "out", one.variants(context.card, context.hardware)[0].params, context)
    except EngineError as refusal:
        return refusal.message
    return ""


@every_onnx_pass
def test_weights_beside_the_graph_are_found(tmp_path: Path, one: Pass) -> None:
    entry = tiny_models.external(tmp_path / "source", build=tiny_models.dynamic_batch)
    feeds = models.normal_feeds("x", (2, 16))
    context = models.context_for(entry, feeds, tmp_path / "work")
    if one.needs in (PassNeeds.EVALUATION, PassNeeds.TRAINING) or isinstance(one.applicable(context.card, context.hardware), No):
        return
    before = models.folder_digest(tmp_path / "source")
    try:
        result = one.apply(entry, tmp_path / "out", one.variants(context.card, context.hardware)[0].params, context)
    except EngineError as refusal:
        assert refusal.code == "pass.no_change"  # noqa: PT017 - a clean graph has nothing to clean
    else:
        ours, theirs = models.outputs_of(entry, feeds), models.outputs_of(result.entry, feeds, name=runtime_of(result.entry))
        assert compare_outputs(TaskKind.GENERIC, ours, theirs).others[0]["cosine_p01"] > 0.99
    assert models.folder_digest(tmp_path / "source") == before
