"""Every pass, on every kind of tiny model: it applies, or refuses with a reason; the source stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from optimizer.errors import EngineError
from optimizer.formats import inspect_model
from optimizer.measure.fidelity import compare_outputs
from optimizer.passes import CONVERSIONS, PASSES, No, Pass, Yes
from optimizer.rounding import all_agree
from optimizer.specs import PassAccuracy, PassNeeds, PassScope, Precision, TaskKind
from tests import samples
from tests.engine.backends import graphs
from tests.engine.passes import models

ELSEWHERE = ("transformer_fusion", "partial_bf16", "openvino_int8", "weight_only", "openvino_weight_only", "opset_upgrade")
PLAIN_PASSES = [one for name, one in PASSES.items() if name not in ELSEWHERE and one.needs is not PassNeeds.TRAINING]
"""Fusion needs attention, shown on the sentence encoder; layers that stay exact need examples to be tried on and networks of their own;
packed weights large ones; raising the operator set an old one, see test_clumsy_export. What trains needs PyTorch: tests/engine/torch.
"""

every_plain_pass = pytest.mark.parametrize("one", PLAIN_PASSES, ids=lambda one: one.name)
every_pass = pytest.mark.parametrize("one", PASSES.values(), ids=list(PASSES))

MODELS = {
    "untidy": (models.untidy, models.normal_feeds("x", (2, 8))),
    "mlp": (samples.mlp, models.normal_feeds("x", (1, 16))),
    "dynamic batch": (samples.dynamic_batch, models.normal_feeds("x", (3, 16))),
    "conv": (samples.conv, models.normal_feeds("image", (1, 3, 32, 32))),
    "zero initializers": (graphs.without_initializers, models.normal_feeds("x", (2, 4))),
    "encoder": (samples.encoder, models.sentence_feeds(width=63 + 1000)),
    "old operator set": (models.old_conv, models.normal_feeds("image", (1, 3, 32, 32))),
    "one node": (samples.identity, models.normal_feeds("x", (4,))),
    "control flow": (samples.loop, models.normal_feeds("x", (1,))),
    "odd names": (graphs.odd_names, [{"serving default:0": np.ones((1, 3), np.float32), "вес.1": np.ones((1, 3), np.float32)}]),
    "function body": (samples.with_function, models.normal_feeds("x", (1,))),
}
MODELS["encoder"] = (
    samples.encoder,
    [{"input_ids": np.arange(7)[None] + i, "attention_mask": np.ones((1, 7), np.int64)} for i in range(4)],
)


@pytest.mark.parametrize("one", [*CONVERSIONS.values(), *PASSES.values()], ids=[*CONVERSIONS, *PASSES])
def test_the_taxonomy_is_declared(one: Pass) -> None:
    assert one.title
    assert one.family
    assert isinstance(one.scope, PassScope)
    assert isinstance(one.accuracy, PassAccuracy)
    assert isinstance(one.needs, PassNeeds)
    assert one.formats
    assert one.tools
    assert one.precisions <= set(Precision)


@pytest.mark.parametrize("name", [*CONVERSIONS, *PASSES])
def test_every_pass_has_its_row_on_a_method_page(name: str) -> None:
    pages = Path(__file__).parents[3] / "docs" / "methods"
    rows = [line for page in pages.glob("*.md") for line in page.read_text().splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in row for row in rows)


@every_pass
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
    is_onnx = result.entry.suffix == ".onnx"
    if is_onnx:
        onnx.checker.check_model(str(result.entry))
    reference = models.outputs_of(model, feeds)
    candidate = models.outputs_of(result.entry, feeds, name="onnxruntime" if is_onnx else "openvino")
    for ours, theirs in zip(reference, candidate, strict=True):
        assert [array.shape for array in ours] == [array.shape for array in theirs]
        if one.accuracy is PassAccuracy.INVARIANT:
            assert all_agree(ours, theirs)
    if one.accuracy is PassAccuracy.SENSITIVE:
        result_of_gate = compare_outputs(TaskKind.GENERIC, reference, candidate)
        assert not result_of_gate.invariant
        assert result_of_gate.finite


@every_plain_pass
def test_each_pass_does_something_to_a_model_made_for_it(tmp_path: Path, one: Pass) -> None:
    (tmp_path / "source").mkdir()
    model = models.untidy(tmp_path / "source" / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (2, 8)), tmp_path / "work")
    assert isinstance(one.applicable(context.card, context.hardware), Yes)
    result = one.apply(model, tmp_path / "out", one.variants(context.card, context.hardware)[0].params, context)
    assert result.facts


@every_plain_pass
def test_weights_beside_the_graph_are_found(tmp_path: Path, one: Pass) -> None:
    entry = samples.external(tmp_path / "source", build=samples.dynamic_batch)
    feeds = models.normal_feeds("x", (2, 16))
    context = models.context_for(entry, feeds, tmp_path / "work")
    assert isinstance(one.applicable(context.card, context.hardware), Yes)
    before = models.folder_digest(tmp_path / "source")
    try:
        result = one.apply(entry, tmp_path / "out", one.variants(context.card, context.hardware)[0].params, context)
    except EngineError as refusal:
        assert refusal.code == "pass.no_change"  # noqa: PT017 - a clean graph has nothing to clean
    else:
        ours, theirs = models.outputs_of(entry, feeds), models.outputs_of(result.entry, feeds)
        assert compare_outputs(TaskKind.GENERIC, ours, theirs).others[0]["cosine_p01"] > 0.99
    assert models.folder_digest(tmp_path / "source") == before


def test_an_already_quantised_model_is_refused_by_both_int8_passes() -> None:
    card = inspect_model(samples.sample_path("S5"))
    assert card.quantized
    for name in ("dynamic_int8", "static_int8"):
        assert PASSES[name].applicable(card, models.HOST) == No("already quantised")


def test_dynamic_int8_leaves_convolutional_networks_alone() -> None:
    answer = PASSES["dynamic_int8"].applicable(inspect_model(samples.sample_path("S2.cls")), models.HOST)
    assert isinstance(answer, No)
    assert "convolutions" in answer.reason


def test_fusion_says_when_there_is_no_pattern() -> None:
    assert PASSES["transformer_fusion"].applicable(inspect_model(samples.sample_path("S2.cls")), models.HOST) == No(
        "no attention or layer-norm pattern"
    )
