"""ONNX's own test graphs, given to inspection and to the backends: a card or a coded refusal, right outputs or a stated reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from optimizer.backends import backend
from optimizer.errors import EngineError, InputError
from optimizer.formats import inspect_model
from optimizer.measure.fidelity import compare_outputs
from optimizer.rounding import all_agree
from optimizer.specs import BackendSettings, ModelCard, TaskKind, Verdict
from tests.corpus import examples, required_corpus

pytestmark = pytest.mark.slow

INSPECTION_CODES = {"onnx.op_domain"}
BACKEND_CODES = {"backend.unsupported", "backend.load_failed"}
RUN_CODES = {"backend.input_refused", "backend.run_failed"}
NUMBERS_AS_TEXT = "each runtime writes a number as text in its own way"
OTHER_DEFINITION = "the runtime follows another version of the operator's definition than the test's"
DIFFERENT = {
    "test_cast_FLOAT_to_STRING": NUMBERS_AS_TEXT,
    "test_castlike_FLOAT_to_STRING": NUMBERS_AS_TEXT,
    "test_castlike_FLOAT_to_STRING_expanded": NUMBERS_AS_TEXT,
    "test_maxunpool_export_with_output_shape": OTHER_DEFINITION,
    "test_resize_downsample_scales_cubic_align_corners": OTHER_DEFINITION,
    "test_resize_downsample_scales_linear_align_corners": OTHER_DEFINITION,
}
"""Graphs whose outputs ONNX Runtime gives otherwise, and why that is no fault of ours."""


MISREAD_BY_OPENVINO = ("test_reduce_l1_keep_dims_example", "test_reduce_log_sum_negative_axes")


@dataclass(slots=True)
class Tally:
    """How the graphs ended, with the names of those that did not run."""

    ends: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    different: dict[str, ModelCard] = field(default_factory=dict)

    def refuse(self, model: Path, error: EngineError) -> None:
        self.ends[error.code] += 1
        self.refused[model.parent.name] = f"{error.code}: {error.message}"


@pytest.fixture(scope="module")
def tally() -> Tally:
    """All graphs through inspection and ONNX Runtime; an exception without a code ends the test."""
    counted = Tally()
    for model in required_corpus():
        try:
            _run(model, counted)
        except EngineError as error:
            counted.refuse(model, error)
    return counted


def _run(model: Path, tally: Tally) -> None:
    card = inspect_model(model)
    session = backend("onnxruntime").open(model, BackendSettings(threads=1))
    names = [tensor.name for tensor in session.inputs]
    assert names == [tensor.name for tensor in card.inputs]
    assert [tensor.name for tensor in session.outputs] == [tensor.name for tensor in card.outputs]
    for feeds, expected in examples(model):
        if all_agree(expected, session.run(dict(zip(names, feeds, strict=True)))):
            tally.ends["agrees"] += 1
        else:
            tally.different[model.parent.name] = card


def test_every_graph_is_described_or_refused_with_a_code_of_its_stage(tally: Tally) -> None:
    assert set(tally.ends) <= {"agrees"} | INSPECTION_CODES | BACKEND_CODES | RUN_CODES
    assert len(tally.refused) < 0.1 * len(required_corpus())
    for sentence in tally.refused.values():
        assert len(sentence) > 40


def test_outputs_are_the_expected_ones_or_have_a_stated_reason(tally: Tally) -> None:
    assert tally.ends["agrees"] > 0.85 * len(required_corpus())
    unexplained = {name for name, card in tally.different.items() if not card.random} - set(DIFFERENT)
    assert not unexplained
    assert set(DIFFERENT) <= set(tally.different), "a reason that no graph needs any more"


def test_what_is_no_tensor_is_refused_by_name_and_kind(tally: Tally) -> None:
    for name, kind in (("test_identity_sequence", "seq("), ("test_identity_opt", "optional("), ("test_cast_FLOAT_to_BFLOAT16", "bfloat16")):
        assert tally.refused[name].startswith("backend.unsupported")
        assert kind in tally.refused[name]


def test_where_openvino_computes_otherwise_the_gate_sees_it() -> None:
    """OpenVINO reduces over all axes where the operator's newer form names them as an input, and says nothing."""
    found = required_corpus()
    sampled = [*found[::8], *(model for model in found if model.parent.name in MISREAD_BY_OPENVINO)]
    verdicts: dict[str, Verdict] = {}
    for model in sampled:
        try:
            verdicts |= _against_onnxruntime(model)
        except EngineError as refused:
            assert refused.code.startswith(("backend.", "onnx."))  # noqa: PT017 - a coded refusal is one right ending of many
    assert len(verdicts) > 0.75 * len(sampled)
    assert {verdicts[name] for name in MISREAD_BY_OPENVINO} == {Verdict.FAIL}
    assert list(verdicts.values()).count(Verdict.PASS) > 0.9 * len(verdicts)


def _against_onnxruntime(model: Path) -> dict[str, Verdict]:
    """The gate's verdict on OpenVINO's outputs, as for a recipe that changes nothing but the runtime."""
    if inspect_model(model).random:
        return {}
    ours, theirs = (backend(name).open(model, BackendSettings(threads=1)) for name in ("onnxruntime", "openvino"))
    arrays, _ = examples(model)[0]
    feeds = dict(zip([tensor.name for tensor in ours.inputs], arrays, strict=True))
    reference, candidate = ours.run(feeds), theirs.run({tensor.name: feeds[tensor.name] for tensor in theirs.inputs})
    result = compare_outputs(TaskKind.GENERIC, [reference], [candidate], accuracy_invariant=True)
    return {model.parent.name: result.verdict}


def test_inspection_warns_of_inputs_that_cannot_be_fed() -> None:
    by_name = {model.parent.name: model for model in required_corpus()}
    for name in ("test_identity_sequence", "test_identity_opt"):
        card = inspect_model(by_name[name])
        assert any(card.inputs[0].name in note for note in card.warnings)
        with pytest.raises(InputError) as refused:
            inspect_model(by_name[name], bindings={"n": 1})
        assert refused.value.code.startswith("input.")
