"""What our own passes do beyond the contract's suite (``optimizer.conformance``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.formats import inspect_model
from optimizer.passes import CONVERSIONS, PASSES, No, Pass, Yes
from optimizer.specs import PassNeeds
from optimizer.tools import KNOWN
from tests import samples
from tests.engine.passes import models

ELSEWHERE = ("transformer_fusion", "partial_bf16", "bf16_rounding", "openvino_int8", "weight_only", "openvino_weight_only", "opset_upgrade")
PLAIN_PASSES = [one for name, one in PASSES.items() if name not in ELSEWHERE and one.needs is not PassNeeds.TRAINING]
"""Fusion needs attention, shown on the sentence encoder; layers that stay exact need examples to be tried on and networks of their own;
packed weights large ones; compensated rounding matrix units, see test_compensated_rounding; raising the operator set an old one, see test_clumsy_export. What trains needs PyTorch: tests/engine/torch.
"""

every_plain_pass = pytest.mark.parametrize("one", PLAIN_PASSES, ids=lambda one: one.name)


@pytest.mark.parametrize("name", [*CONVERSIONS, *PASSES, *KNOWN])
def test_every_pass_has_its_row_on_a_method_page(name: str) -> None:
    pages = Path(__file__).parents[3] / "docs" / "methods"
    rows = [line for page in pages.glob("*.md") for line in page.read_text().splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in row for row in rows)


@every_plain_pass
def test_each_pass_does_something_to_a_model_made_for_it(tmp_path: Path, one: Pass) -> None:
    (tmp_path / "source").mkdir()
    model = models.untidy(tmp_path / "source" / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (2, 8)), tmp_path / "work")
    assert isinstance(one.applicable(context.card, context.hardware), Yes)
    result = one.apply(model, tmp_path / "out", one.variants(context.card, context.hardware)[0].params, context)
    assert result.facts


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
