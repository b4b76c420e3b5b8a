"""The sentence encoder through real recipes on both backends: outputs hold where they must."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.backends import backend
from optimizer.errors import EngineError
from optimizer.measure.fidelity import compare_outputs
from optimizer.passes import PASSES
from optimizer.passes.child import rewrite
from optimizer.specs import BackendSettings, PassStep, Precision, TaskKind, Verdict
from tests import samples
from tests.engine.passes import models

RECIPES = {
    "as it is on openvino": ((), "openvino", Precision.F32, True),
    "bf16 hint": ((), "openvino", Precision.BF16, False),
    "fixed shapes and cleaning": (("shape_specialisation", "ort_basic"), "openvino", Precision.F32, True),
    "simplified": (("simplify",), "onnxruntime", Precision.F32, True),
    "fused and dynamic int8": (("transformer_fusion", "dynamic_int8"), "onnxruntime", Precision.F32, False),
    "static int8": (("ort_basic", "static_int8"), "onnxruntime", Precision.F32, False),
}


@pytest.fixture(scope="module")
def feeds() -> list[models.Feeds]:
    return models.sentence_feeds(count=8)


@pytest.fixture(scope="module")
def reference(feeds: list[models.Feeds]) -> list[list[np.ndarray]]:
    return models.outputs_of(samples.sample_path("S1"), feeds)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_sentence_encoder_keeps_its_meaning(
    tmp_path: Path, feeds: list[models.Feeds], reference: list[list[np.ndarray]], recipe: str
) -> None:
    names, runtime, precision, is_invariant = RECIPES[recipe]
    model = samples.sample_path("S1")
    context = models.context_for(model, feeds, tmp_path / "work")
    steps = [PASSES[name].variants(context.card, context.hardware)[0] for name in names]
    entry = rewrite(model, steps, context=context).entry if steps else model
    session = backend(runtime).open(entry, BackendSettings(threads=2, precision=precision), shapes=context.shapes)
    result = compare_outputs(TaskKind.EMBEDDING, reference, [session.run(feed) for feed in feeds])
    last = max(result.others)
    assert result.finite
    assert result.invariant is is_invariant
    assert result.others[last]["cosine_p01"] > (0.9999 if is_invariant else 0.9)


def test_fusion_finds_the_attention_of_the_encoder_and_keeps_its_outputs(
    tmp_path: Path, feeds: list[models.Feeds], reference: list[list[np.ndarray]]
) -> None:
    model = samples.sample_path("S1")
    done = rewrite(model, [PassStep(name="transformer_fusion")], context=models.context_for(model, feeds, tmp_path / "work"))
    assert done.facts[0]["fused"]["Attention"] == 3
    assert compare_outputs(TaskKind.EMBEDDING, reference, models.outputs_of(done.entry, feeds)).invariant


def test_a_simplifier_that_runs_first_hides_attention_from_the_fusion(tmp_path: Path, feeds: list[models.Feeds]) -> None:
    model = samples.sample_path("S1")
    context = models.context_for(model, feeds, tmp_path / "work")
    facts = rewrite(model, [PassStep(name="simplify"), PassStep(name="transformer_fusion")], context=context).facts
    assert "Attention" not in facts[1]["fused"]
    assert list(PASSES).index("transformer_fusion") < list(PASSES).index("dynamic_int8")


def test_per_channel_int8_is_closer_than_per_tensor_and_leads(
    tmp_path: Path, feeds: list[models.Feeds], reference: list[list[np.ndarray]]
) -> None:
    model = samples.sample_path("S1")
    closeness = []
    for index, step in enumerate(PASSES["dynamic_int8"].variants(models.context_for(model, feeds, tmp_path / "card").card, models.HOST)):
        context = models.context_for(model, feeds, tmp_path / str(index))
        outputs = models.outputs_of(rewrite(model, [step], context=context).entry, feeds)
        result = compare_outputs(TaskKind.EMBEDDING, reference, outputs)
        assert result.verdict is not Verdict.PASS
        closeness.append(result.others[max(result.others)]["cosine_p01"])
    assert closeness[0] > closeness[1]


def test_a_fusion_that_writes_operators_unknown_to_the_models_opset_is_discarded(tmp_path: Path) -> None:
    model = samples.sample_path("S2.rec")
    feeds = models.normal_feeds("x", (1, 3, 48, 64), count=2)
    with pytest.raises(EngineError) as refusal:
        rewrite(model, [PassStep(name="transformer_fusion")], context=models.context_for(model, feeds, tmp_path / "work"))
    assert refusal.value.code == "pass.failed"
    assert "LayerNormalization" in refusal.value.message
