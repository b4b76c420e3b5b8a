"""Cards say the truth about the sample models, checked against facts counted by the onnx library or by hand."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.formats import inspect_model
from optimizer.specs import ModelCard, TaskKind
from tests import samples
from tests.engine.formats.codes import refusal_of

COUNTED = {"float32", "float16", "int8", "uint8"}


@pytest.fixture(scope="module")
def cards() -> dict[str, ModelCard]:
    return {sample: inspect_model(samples.sample_path(sample)) for sample in samples.PACKAGED}


@pytest.mark.parametrize("sample", samples.PACKAGED)
def test_counts_equal_those_of_the_onnx_library(cards: dict[str, ModelCard], sample: str) -> None:
    card, path = cards[sample], samples.sample_path(sample)
    model = onnx.load(path)
    constants = [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")]
    arrays = [numpy_helper.to_array(tensor) for tensor in [*model.graph.initializer, *constants]]
    assert card.parameters == sum(array.size for array in arrays if array.dtype.name in COUNTED)
    assert card.weight_bytes == sum(array.nbytes for array in arrays) == sum(card.precisions.values())
    assert card.operators == dict(Counter(node.op_type for node in model.graph.node))
    assert card.node_count == len(model.graph.node)
    assert [tensor.name for tensor in card.inputs] == [port.name for port in model.graph.input]
    assert [tensor.name for tensor in card.outputs] == [port.name for port in model.graph.output]
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card.size_bytes == path.stat().st_size
    assert card.warnings == (() if not card.quantized else card.warnings)
    assert from_jsonable(ModelCard, to_jsonable(card)) == card


def test_the_sentence_encoder_is_recognised(cards: dict[str, ModelCard]) -> None:
    card = cards["S1"]
    assert (card.task, card.opset, card.producer) == (TaskKind.EMBEDDING, 17, "pytorch 2.3.0")
    assert card.symbols == ("batch_size", "sequence_length")
    assert card.bindings == {"batch_size": 1, "sequence_length": 128}
    assert card.vocabularies == {"input_ids": 30_522}
    assert not card.quantized
    assert not card.control_flow


def test_the_flops_of_the_sentence_encoder_follow_its_architecture(cards: dict[str, ModelCard]) -> None:
    layers, width, inner, tokens = 3, 384, 1536, 128
    products = layers * 2 * tokens * (4 * width * width + 2 * width * inner)
    attention = layers * 4 * tokens * tokens * width
    flops = cards["S1"].flops
    assert flops is not None
    assert products + attention < flops < 1.02 * (products + attention)


def test_the_ocr_stages_are_recognised(cards: dict[str, ModelCard]) -> None:
    assert cards["S2.rec"].task is TaskKind.SEQUENCE
    assert cards["S2.cls"].task is TaskKind.CLASSIFICATION
    assert cards["S2.det"].task is TaskKind.GENERIC
    assert list(cards["S2.rec"].bindings.values()) == [1, 48, 320]
    assert list(cards["S2.cls"].bindings.values()) == [1, 48, 192]
    assert list(cards["S2.det"].bindings.values()) == [1, 640, 640]
    assert set("Hello, 42") - {" "} <= set(cards["S2.rec"].charset)
    assert len(cards["S2.rec"].metadata["character"]) <= 1_024


def test_convolution_flops_of_the_classifier_equal_a_count_by_the_library(cards: dict[str, ModelCard]) -> None:
    model = onnx.load(samples.sample_path("S2.cls"))
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 48, 192), strict=True):
        dim.Clear()
        dim.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inferred.graph.value_info}
    weights = {node.output[0]: list(node.attribute[0].t.dims) for node in model.graph.node if node.op_type == "Constant"}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    by_hand = sum(2 * np.prod(shapes[node.output[0]]) * np.prod(weights[node.input[1]][1:]) for node in convolutions)
    flops = cards["S2.cls"].flops
    assert flops is not None
    assert by_hand < flops < 1.15 * by_hand


def test_weights_stored_as_int8_count_as_quantised(cards: dict[str, ModelCard]) -> None:
    card = cards["S5"]
    assert card.quantized
    assert card.vocabularies == {"input_ids": 30_522, "token_type_ids": 2}
    assert card.precisions["int8"] > 10 * card.precisions["float32"]
    assert any("already quantised" in warning for warning in card.warnings)


def test_bindings_move_the_flops(tmp_path: Path) -> None:
    path = samples.dynamic_batch(tmp_path / "m.onnx")
    one, eight = inspect_model(path), inspect_model(path, bindings={"batch": 8})
    assert one.flops is not None
    assert eight.flops == 8 * one.flops
    assert eight.bindings == {"batch": 8}
    assert one.traffic_bytes is not None
    assert eight.traffic_bytes is not None
    assert one.traffic_bytes < eight.traffic_bytes < 8 * one.traffic_bytes


def test_flops_and_traffic_of_a_small_network_are_exact(tmp_path: Path) -> None:
    card = inspect_model(samples.mlp(tmp_path / "m.onnx", batch=2, width=4, hidden=8, classes=3))
    gemms = 2 * 2 * (4 * 8 + 8 * 3) + 2 * (8 + 3)
    assert card.flops == gemms + 2 * 8 + 5 * 2 * 3
    values = (2 * 4 + 4 * 8 + 8 + 2 * 8) + (2 * 8 + 2 * 8) + (2 * 8 + 8 * 3 + 3 + 2 * 3) + (2 * 3 + 2 * 3)
    assert card.traffic_bytes == 4 * values
    assert card.parameters == 4 * 8 + 8 + 8 * 3 + 3


@pytest.mark.parametrize(
    ("build", "trait"),
    [
        (samples.loop, {"control_flow": True, "flops": None}),
        (samples.branch, {"control_flow": True, "flops": None}),
        (samples.recurrent, {"state_pairs": (("state", "stateN"),), "control_flow": False}),
        (samples.encoder, {"task": TaskKind.EMBEDDING, "vocabularies": {"input_ids": 64}}),
        (samples.mlp, {"task": TaskKind.CLASSIFICATION}),
        (samples.conv, {"task": TaskKind.CLASSIFICATION}),
        (samples.identity, {"task": TaskKind.GENERIC, "flops": 0}),
        (samples.unsupported_op, {"flops": None}),
        (samples.with_function, {"flops": None}),
    ],
)
def test_small_graphs_have_their_traits(tmp_path: Path, build: object, trait: dict[str, object]) -> None:
    card = inspect_model(build(tmp_path / "m.onnx"))  # type: ignore[operator]
    assert {name: getattr(card, name) for name in trait} == trait
    assert (card.flops is None) == any("FLOPs" in warning for warning in card.warnings)


def _graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    *tensors: onnx.TensorProto,
) -> Path:
    return samples.save(helper.make_graph(nodes, "g", inputs, outputs, tensors), path)


def test_random_and_data_dependent_graphs_are_marked(tmp_path: Path) -> None:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("NonZero", ["r"], ["y"])]
    card = inspect_model(
        _graph(tmp_path / "m.onnx", nodes, [samples.value("x", [4])], [samples.value("y", [1, None], dtype=TensorProto.INT64)])
    )
    assert card.random
    assert card.data_dependent_shapes
    assert card.outputs[0].shape == (1, None)
    assert len(card.warnings) == 3


def test_quantisation_operators_are_seen(tmp_path: Path) -> None:
    tensors = [numpy_helper.from_array(np.array(0.1, np.float32), "s"), numpy_helper.from_array(np.array(0, np.uint8), "z")]
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    assert inspect_model(_graph(tmp_path / "m.onnx", nodes, [samples.value("x", [4])], [samples.value("y", [4])], *tensors)).quantized


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("h0", "hn"),
        ("c", "cn"),
        ("state", "stateN"),
        ("hidden_in", "hidden_out"),
        ("past_key_values.0.key", "present.0.key"),
        ("state_1", "new_state_1"),
    ],
)
def test_state_pairs_are_matched_by_name(tmp_path: Path, source: str, target: str) -> None:
    nodes = [helper.make_node("Add", ["x", source], [target]), helper.make_node("Neg", [target], ["y"])]
    shape = [1, 8]
    inputs, outputs = [samples.value("x", shape), samples.value(source, shape)], [samples.value("y", shape), samples.value(target, shape)]
    assert inspect_model(_graph(tmp_path / "m.onnx", nodes, inputs, outputs)).state_pairs == ((source, target),)


def test_an_image_and_its_reconstruction_are_no_state(tmp_path: Path) -> None:
    shape = [1, 3, 8, 8]
    nodes = [helper.make_node("Relu", ["image"], ["image_out"])]
    assert (
        inspect_model(_graph(tmp_path / "m.onnx", nodes, [samples.value("image", shape)], [samples.value("image_out", shape)])).state_pairs
        == ()
    )


def test_dims_without_a_name_get_the_name_of_their_place(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = _graph(tmp_path / "m.onnx", nodes, [samples.value("x", [None, "?", 3, -1])], [samples.value("y", ["?", None, 3, 4])])
    card = inspect_model(path, bindings={"x[1]": 7})
    assert card.inputs[0].shape == ("x[0]", "x[1]", 3, "x[3]")
    assert card.outputs[0].shape == (None, None, 3, 4)
    assert card.bindings["x[1]"] == 7


def test_an_unknown_binding_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    path = samples.dynamic_batch(tmp_path / "m.onnx")
    for bindings in ({"sequence": 4}, {"batch": 0}, {"batch": 1 << 40}, {"batch": True}):
        assert refusal_of(lambda bindings=bindings: inspect_model(path, bindings=bindings)) == "input.refused"


def test_an_input_without_a_shape_is_described_and_warned_about(tmp_path: Path) -> None:
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    card = inspect_model(_graph(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], [port], [samples.value("y", [1])]))
    assert not card.inputs[0].ranked
    assert card.flops is None
    assert any("declares no shape" in warning for warning in card.warnings)


def test_a_sequence_input_is_described_and_warned_about(tmp_path: Path) -> None:
    port = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [2])
    node = helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)
    card = inspect_model(_graph(tmp_path / "m.onnx", [node], [port], [samples.value("y", [2])]))
    assert card.inputs[0].dtype == "sequence"
    assert any("cannot be fed" in warning for warning in card.warnings)


def test_an_optional_input_is_described_and_warned_about(tmp_path: Path) -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2]))
    node = helper.make_node("OptionalGetElement", ["x"], ["y"])
    card = inspect_model(_graph(tmp_path / "m.onnx", [node], [helper.make_value_info("x", kind)], [samples.value("y", [2])]))
    assert card.inputs[0].dtype == "optional"
    assert any("cannot be fed" in warning for warning in card.warnings)


def _dropout(path: Path, mode: str) -> Path:
    """Dropout whose mode is left out, a constant of either kind, or an input."""
    flag = numpy_helper.from_array(np.array(mode == "on"), "mode")
    nodes, inputs, stored = [], [samples.value("x", [4])], [numpy_helper.from_array(np.array(0.5, np.float32), "ratio")]
    if mode == "node":
        nodes.append(helper.make_node("Constant", [], ["mode"], value=numpy_helper.from_array(np.array(False))))
    elif mode == "input":
        inputs.append(samples.value("mode", [], dtype=TensorProto.BOOL))
    elif mode != "absent":
        stored.append(flag)
    nodes.append(helper.make_node("Dropout", ["x", "ratio", *([] if mode == "absent" else ["mode"])], ["y"]))
    return samples.save(helper.make_graph(nodes, "dropout", inputs, [samples.value("y", [4])], stored), path)


@pytest.mark.parametrize(("mode", "random"), [("absent", False), ("off", False), ("node", False), ("on", True), ("input", True)])
def test_dropout_is_random_where_it_trains(tmp_path: Path, mode: str, random: bool) -> None:
    assert inspect_model(_dropout(tmp_path / "m.onnx", mode)).random is random


def test_long_texts_are_cut(tmp_path: Path) -> None:
    model = onnx.load(samples.mlp(tmp_path / "m.onnx"))
    model.producer_name = "p" * 5_000
    helper.set_model_props(model, {"k" * 2_000: "v" * 60_000})
    onnx.save(model, tmp_path / "m.onnx")
    card = inspect_model(tmp_path / "m.onnx")
    assert len(card.producer) == 1_024
    assert [(len(key), len(value)) for key, value in card.metadata.items()] == [(1_024, 1_024)]
