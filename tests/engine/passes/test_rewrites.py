"""What verification, calibration, recipes and build keys promise."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from optimizer.errors import EngineError, InputError
from optimizer.measure.fidelity import compare_outputs
from optimizer.passes import PASSES, optimization_pass
from optimizer.passes.build_key import build_key, tool_versions
from optimizer.passes.child import check_structure, rewrite
from optimizer.passes.quantizer import needs_reduced_range
from optimizer.passes.verify import verify_rewrite
from optimizer.specs import PassStep, TaskKind, Verdict
from tests import samples
from tests.engine.passes import models

SHAPES = {"x": (2, 8)}


def tampered(model: Path, target: Path, *, factor: float) -> Path:
    """A copy whose first weight tensor is scaled."""
    copy = onnx.load(model)
    for tensor in copy.graph.initializer:
        if tensor.name == "w0":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), "w0"))
    onnx.save(copy, target)
    return target


@pytest.mark.parametrize("with_examples", [True, False])
def test_a_rewrite_that_changes_numbers_is_discarded(tmp_path: Path, with_examples: bool) -> None:
    model = samples.mlp(tmp_path / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (1, 16)), tmp_path / "work", with_examples=with_examples)
    same = tampered(model, tmp_path / "same.onnx", factor=1.0)
    facts = verify_rewrite(model, same, context)
    assert facts["verified"]
    assert facts["inputs"] == ("calibration" if with_examples else "synthetic")
    wrong = tampered(model, tmp_path / "wrong.onnx", factor=1.05)
    with pytest.raises(EngineError) as refusal:
        verify_rewrite(model, wrong, context)
    assert refusal.value.code == "pass.changed_outputs"


def test_a_rewrite_that_changes_numbers_is_caught_by_the_gate_too(tmp_path: Path) -> None:
    model = samples.mlp(tmp_path / "model.onnx")
    feeds = models.normal_feeds("x", (1, 16), count=400)
    wrong = tampered(model, tmp_path / "wrong.onnx", factor=-5.0)
    result = compare_outputs(TaskKind.CLASSIFICATION, models.outputs_of(model, feeds), models.outputs_of(wrong, feeds))
    assert result.verdict is Verdict.FAIL


def test_a_random_model_is_not_verified_and_says_so(tmp_path: Path) -> None:
    model = samples.mlp(tmp_path / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (1, 16)), tmp_path / "work")
    facts = verify_rewrite(model, model, replace(context, card=replace(context.card, random=True)))
    assert facts["verified"] is False


def test_an_original_that_does_not_run_cannot_be_verified(tmp_path: Path) -> None:
    model = samples.mlp(tmp_path / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (1, 16)), tmp_path / "work")
    with pytest.raises(EngineError) as refusal:
        verify_rewrite(samples.unsupported_op(tmp_path / "broken.onnx"), model, context)
    assert refusal.value.code == "pass.failed"


def test_only_the_calibration_split_is_looked_at(tmp_path: Path) -> None:
    model = models.untidy(tmp_path / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (2, 8), count=10), tmp_path / "work")
    step = PASSES["static_int8"].variants(context.card, context.hardware)[0]
    chosen = replace(context, calibration_indices=(1, 4, 7))
    assert PASSES["static_int8"].apply(model, tmp_path / "out", step.params, chosen).facts["calibration_examples"] == 3


def test_static_int8_without_examples_says_what_is_missing(tmp_path: Path) -> None:
    model = models.untidy(tmp_path / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (2, 8)), tmp_path / "work", with_examples=False)
    with pytest.raises(EngineError) as refusal:
        PASSES["static_int8"].apply(model, tmp_path / "out", {}, context)
    assert refusal.value.code == "pass.failed"
    assert "calibration" in refusal.value.message


@pytest.mark.parametrize("per_channel", [True, False])
def test_static_int8_converts_an_old_opset_so_that_its_result_loads(tmp_path: Path, per_channel: bool) -> None:
    model = models.old_conv(tmp_path / "model.onnx")
    feeds = models.normal_feeds("image", (1, 3, 32, 32))
    context = models.context_for(model, feeds, tmp_path / "work")
    result = PASSES["static_int8"].apply(model, tmp_path / "out", {"per_channel": per_channel, "activation": "uint8"}, context)
    ours, theirs = models.outputs_of(model, feeds), models.outputs_of(result.entry, feeds)
    assert compare_outputs(TaskKind.GENERIC, ours, theirs).others[0]["cosine_p01"] > 0.98


def test_int8_choices_follow_the_host() -> None:
    vnni, old, arm = models.HOST, replace(models.HOST, dot_int8=False), replace(models.HOST, architecture="aarch64", dot_int8=False)
    assert [needs_reduced_range(host) for host in (vnni, old, arm)] == [False, True, False]
    card = models.context_for  # the variants read no card
    activations = [PASSES["static_int8"].variants(card, host)[0].params["activation"] for host in (vnni, arm)]  # type: ignore[arg-type]
    assert activations == ["uint8", "int8"]


def test_a_recipe_runs_its_passes_in_order_and_reports_each(tmp_path: Path) -> None:
    model = models.untidy(tmp_path / "model.onnx")
    feeds = models.normal_feeds("x", (2, 8))
    context = models.context_for(model, feeds, tmp_path / "work")
    steps = [PassStep(name=name) for name in ("shape_specialisation", "ort_basic", "dynamic_int8")]
    done = rewrite(model, steps, context=context)
    assert [sheet["pass"] for sheet in done.facts] == ["shape_specialisation", "ort_basic", "dynamic_int8"]
    assert all(sheet["seconds"] > 0 for sheet in done.facts)
    assert "MatMulInteger" in done.facts[-1]["quantized"]
    assert models.outputs_of(done.entry, feeds)[0][0].shape == (2, 8)


def test_a_cleaner_without_work_is_noted_and_the_chain_goes_on(tmp_path: Path) -> None:
    model = samples.mlp(tmp_path / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (1, 16)), tmp_path / "work")
    done = rewrite(model, [PassStep(name="simplify"), PassStep(name="dynamic_int8")], context=context)
    assert done.facts[0]["changed"] is False
    assert done.facts[1]["quantized"]


@pytest.mark.parametrize("names", [["simplify"], ["simplify", "ort_basic"]])
def test_a_chain_that_changes_nothing_is_no_candidate(tmp_path: Path, names: list[str]) -> None:
    model = samples.mlp(tmp_path / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (1, 16)), tmp_path / "work")
    with pytest.raises(EngineError) as refusal:
        rewrite(model, [PassStep(name=name) for name in names], context=context)
    assert refusal.value.code == "pass.no_change"


def test_a_pass_that_does_not_apply_is_refused_with_its_reason(tmp_path: Path) -> None:
    model = samples.mlp(tmp_path / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (1, 16)), tmp_path / "work")
    with pytest.raises(InputError) as refusal:
        rewrite(model, [PassStep(name="transformer_fusion")], context=context)
    assert refusal.value.code == "pass.not_applicable"
    assert "layer-norm" in refusal.value.message


def test_an_unknown_pass_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError) as refusal:
        optimization_pass("magic")
    assert refusal.value.code == "pass.unknown"
    assert "ort_basic" in refusal.value.message


def test_the_build_key_changes_with_every_ingredient_and_with_nothing_else() -> None:
    static = [PassStep(name="static_int8", params={"per_channel": True, "activation": "uint8"})]
    versions = {"onnxruntime": "1"}
    base = build_key("a" * 64, static, data_digest="c", shapes=SHAPES, versions=versions)
    assert base == build_key(
        "a" * 64,
        [PassStep(name="static_int8", params={"activation": "uint8", "per_channel": True})],
        data_digest="c",
        shapes=dict(SHAPES),
        versions=dict(versions),
    )
    others = [
        build_key("b" * 64, static, data_digest="c", shapes=SHAPES, versions=versions),
        build_key("a" * 64, [PassStep(name="static_int8")], data_digest="c", shapes=SHAPES, versions=versions),
        build_key("a" * 64, [*static, PassStep(name="simplify")], data_digest="c", shapes=SHAPES, versions=versions),
        build_key("a" * 64, static, data_digest="d", shapes=SHAPES, versions=versions),
        build_key("a" * 64, static, data_digest="c", shapes={"x": (1, 8)}, versions=versions),
        build_key("a" * 64, static, data_digest="c", shapes=SHAPES, versions={"onnxruntime": "2"}),
    ]
    assert len({base, *others}) == 7


def test_calibration_counts_in_the_key_only_for_passes_that_use_it() -> None:
    steps = [PassStep(name="simplify")]
    assert build_key("a", steps, data_digest="c") == build_key("a", steps, data_digest="d")


def test_tool_versions_name_the_installed_distributions() -> None:
    assert set(tool_versions([PassStep(name="simplify"), PassStep(name="ort_basic")])) == {"onnx", "onnxslim", "onnxruntime"}
    assert all(tool_versions([PassStep(name="simplify")]).values())


def test_no_pass_needs_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from optimizer.passes.transformer_fusion import _optimized\n"
        "from pathlib import Path\n"
        f"_optimized(Path({str(samples.sample_path('S1'))!r}))\n"
        "import onnxslim, optimizer.passes.quantizer as q; q.quantization()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_result_that_is_no_valid_graph_is_discarded_unless_the_source_was_none_either(tmp_path: Path) -> None:
    for name in ("sound", "broken", "as_broken"):
        (tmp_path / name).mkdir()
    sound = samples.mlp(tmp_path / "sound" / "model.onnx")
    broken = samples.unsupported_op(tmp_path / "broken" / "model.onnx")
    as_broken = samples.unsupported_op(tmp_path / "as_broken" / "model.onnx")
    check_structure(sound, before=broken)
    check_structure(broken, before=as_broken)
    with pytest.raises(EngineError) as refusal:
        check_structure(broken, before=sound)
    assert refusal.value.code == "pass.failed"
