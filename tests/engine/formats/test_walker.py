"""The ONNX walker: what the libraries tolerate is refused, within bounded time and memory."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, onnx_ml_pb2

from optimizer.formats import onnx_schema
from optimizer.formats.onnx_facts import ModelFacts
from optimizer.formats.onnx_graph import CAPS, Caps, mapped, reader_of, walk
from optimizer.formats.onnx_rules import check_rules
from optimizer.formats.onnx_tensors import tensor_values
from optimizer.formats.protobuf import Kind
from tests import samples
from tests.engine.formats.codes import refusal_of

MESSAGES = {
    "MODEL": "ModelProto", "GRAPH": "GraphProto", "NODE": "NodeProto", "ATTRIBUTE": "AttributeProto", "TENSOR": "TensorProto",
    "SPARSE_TENSOR": "SparseTensorProto", "VALUE_INFO": "ValueInfoProto", "TYPE": "TypeProto", "TENSOR_TYPE": "TypeProto.Tensor",
    "SEQUENCE_TYPE": "TypeProto.Sequence", "OPTIONAL_TYPE": "TypeProto.Optional", "MAP_TYPE": "TypeProto.Map", "SHAPE": "TensorShapeProto",
    "DIMENSION": "TensorShapeProto.Dimension", "OPERATOR_SET": "OperatorSetIdProto", "KEY_VALUE": "StringStringEntryProto",
    "FUNCTION": "FunctionProto", "TRAINING_INFO": "TrainingInfoProto",
}  # fmt: skip
WIRES = {2: 5, 1: 1, 3: 0, 4: 0, 5: 0, 14: 0, 9: 2, 12: 2, 11: 2}


def walked(data: bytes, *, caps: Caps = CAPS) -> ModelFacts:
    facts = walk(data, caps=caps)
    check_rules(facts)
    return facts


def code_of(data: bytes, *, caps: Caps = CAPS) -> str:
    return refusal_of(lambda: walked(data, caps=caps))


def model_with(**fields: object) -> onnx.ModelProto:
    """A one-node model whose tensor ``t`` can be bent."""
    tensor = numpy_helper.from_array(np.ones((2, 3), np.float32), "t")
    for name, value in fields.items():
        setattr(tensor, name, value)
    node = helper.make_node("Add", ["x", "t"], ["y"])
    graph = helper.make_graph([node], "g", [samples.value("x", [2, 3])], [samples.value("y", [2, 3])], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.mark.parametrize("table", MESSAGES)
def test_the_schema_agrees_with_the_installed_onnx(table: str) -> None:
    message = onnx_ml_pb2
    for part in MESSAGES[table].split("."):
        message = getattr(message, part)
    real = {field.number: field for field in message.DESCRIPTOR.fields}
    for number, field in getattr(onnx_schema, table).items():
        assert real[number].name == field.name
        assert WIRES[real[number].type] == field.kind.wire
        assert (real[number].type == 11) == (field.kind is Kind.MESSAGE)
        assert real[number].is_repeated == field.repeated


def test_the_dtype_table_agrees_with_the_installed_onnx() -> None:
    for code, (name, bits) in onnx_schema.DTYPES.items():
        if name != "string":
            assert helper.tensor_dtype_to_np_dtype(code).name == name
            assert bits in (2, 4, 6) or helper.tensor_dtype_to_np_dtype(code).itemsize * 8 == bits


@pytest.mark.parametrize("sample", samples.PACKAGED)
def test_the_structure_of_a_sample_equals_the_library_s_view(sample: str) -> None:
    path = samples.sample_path(sample)
    model = onnx.load(path)
    with mapped(path) as view:
        facts = walk(view)
    constants = [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")]
    tensors = [*model.graph.initializer, *constants]
    assert [(node.op_type, node.inputs, node.outputs) for node in facts.main.nodes] == [
        (node.op_type, tuple(node.input), tuple(node.output)) for node in model.graph.node
    ]
    assert sorted((tensor.name, tensor.dims) for tensor in facts.tensors()) == sorted(
        (tensor.name, tuple(tensor.dims)) for tensor in tensors
    )
    assert facts.weight_bytes == sum(numpy_helper.to_array(tensor).nbytes for tensor in tensors)
    assert facts.metadata == {entry.key: entry.value for entry in model.metadata_props}


def test_subgraphs_are_walked_with_their_depth(tmp_path: Path) -> None:
    facts = walked(samples.nested(tmp_path / "m.onnx", depth=16).read_bytes())
    assert [graph.depth for graph in facts.graphs] == list(range(17))
    assert len(list(facts.nodes())) == 17


def test_ten_thousand_nested_subgraphs_are_refused(tmp_path: Path) -> None:
    assert code_of(samples.nested(tmp_path / "m.onnx", depth=17).read_bytes()) == "onnx.limit"
    assert code_of(samples.nested(tmp_path / "m.onnx", depth=10_000).read_bytes()) == "onnx.limit"


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from optimizer.errors import InputError
from optimizer.formats.onnx_graph import mapped, walk
resource.setrlimit(resource.RLIMIT_DATA, (512 << 20, 512 << 20))
try:
    with mapped(Path(sys.argv[1])) as view:
        walk(view)
except InputError as error:
    print(error.code)
"""


def test_five_million_nodes_are_refused_in_half_a_gigabyte(tmp_path: Path) -> None:
    path = samples.many_nodes(tmp_path / "m.onnx", count=5_000_000)
    run = subprocess.run([sys.executable, "-c", LITTLE_MEMORY, str(path)], capture_output=True, text=True, check=False, timeout=120)
    assert (run.stdout.strip(), run.stderr) == ("onnx.limit", "")


def test_the_largest_allowed_graph_is_walked_in_half_a_gigabyte(tmp_path: Path) -> None:
    path = samples.many_nodes(tmp_path / "m.onnx", count=250_000)
    run = subprocess.run([sys.executable, "-c", LITTLE_MEMORY, str(path)], capture_output=True, text=True, check=False, timeout=120)
    assert (run.stdout.strip(), run.stderr) == ("", "")


def test_the_node_cap_counts_all_graphs_together(tmp_path: Path) -> None:
    data = samples.nested(tmp_path / "m.onnx", depth=4).read_bytes()
    assert code_of(data, caps=Caps(nodes=5)) == ""
    assert code_of(data, caps=Caps(nodes=4)) == "onnx.limit"


@pytest.mark.parametrize(
    "caps", [Caps(tensors=0), Caps(weight_bytes=23), Caps(fields=10), Caps(text_bytes=2), Caps(ports=0), Caps(port_name_bytes=0)]
)
def test_every_cap_refuses(caps: Caps) -> None:
    data = model_with().SerializeToString()
    assert code_of(data) == ""
    assert code_of(data, caps=caps) == "onnx.limit"


@pytest.mark.parametrize("value", [b"x" * 65_537, [b"x" * 65_537], helper.make_tensor("v", TensorProto.STRING, [1], [b"x" * 65_537])])
def test_long_texts_in_attributes_and_tensors_are_refused(value: object) -> None:
    model = model_with()
    model.graph.node[0].attribute.append(helper.make_attribute("a", value))
    assert code_of(model.SerializeToString()) == "onnx.limit"


def test_text_in_an_external_file_is_refused() -> None:
    model = model_with(data_type=TensorProto.STRING, data_location=TensorProto.EXTERNAL)
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].external_data.add(key="location", value="x.bin")
    assert code_of(model.SerializeToString()) == "onnx.malformed"


def test_rank_seventeen_is_refused() -> None:
    model = model_with()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1] * 16 + [6])
    assert code_of(model.SerializeToString()) == "onnx.limit"
    model = model_with()
    model.graph.input[0].type.tensor_type.shape.dim.extend(model.graph.input[0].type.tensor_type.shape.dim[:1] * 15)
    assert code_of(model.SerializeToString()) == "onnx.limit"


@pytest.mark.parametrize(
    "dims", [[2, -3], [-2, -3], [-1], [1 << 40, 1 << 40], [1 << 62, 4], [7], [2, 3, 2], [0, 6], [3_037_000_500, 3_037_000_500]]
)  # fmt: skip
def test_dims_that_do_not_match_the_bytes_are_refused(dims: list[int]) -> None:
    model = model_with()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    assert code_of(model.SerializeToString()) in ("onnx.malformed", "onnx.limit")


def test_tensor_storage_must_match_its_dtype() -> None:
    for bend in ({"data_type": 11}, {"data_type": 8}, {"data_type": 99}, {"raw_data": b"\0" * 23}, {"raw_data": b""}):
        assert code_of(model_with(**bend).SerializeToString()) == "onnx.malformed"
    twice = model_with()
    twice.graph.initializer[0].float_data.extend([1.0] * 6)
    assert code_of(twice.SerializeToString()) == "onnx.malformed"
    empty = model_with()
    empty.graph.initializer[0].ClearField("raw_data")
    assert code_of(empty.SerializeToString()) == "onnx.malformed"


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (TensorProto.FLOAT, [1.5] * 6), (TensorProto.DOUBLE, [1.5] * 6), (TensorProto.INT64, [-1] * 6), (TensorProto.INT32, [-7] * 6),
        (TensorProto.UINT64, [1 << 60] * 6), (TensorProto.BOOL, [True] * 6), (TensorProto.FLOAT16, [1.0] * 6), (TensorProto.INT4, [-3] * 6),
        (TensorProto.COMPLEX64, [1 + 2j] * 6), (TensorProto.STRING, [b"text"] * 6), (TensorProto.BFLOAT16, [1.0] * 6), (TensorProto.UINT8, [200] * 6),
    ],
)  # fmt: skip
def test_every_typed_storage_is_understood(dtype: int, values: list[object]) -> None:
    model = model_with()
    model.graph.initializer[0].CopyFrom(helper.make_tensor("t", dtype, [2, 3], values))
    assert code_of(model.SerializeToString()) == ""
    model.graph.initializer[0].dims[0] = 4
    assert code_of(model.SerializeToString()) == "onnx.malformed"


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
def test_small_values_are_read_from_both_storages(dtype: type, raw: bool) -> None:
    values = np.array([[1, -2, 3]], dtype)
    tensor = (
        numpy_helper.from_array(values, "t")
        if raw
        else helper.make_tensor("t", helper.np_dtype_to_tensor_dtype(values.dtype), [1, 3], values)
    )
    model = model_with()
    model.graph.initializer[0].CopyFrom(tensor)
    data = model.SerializeToString()
    read = tensor_values(reader_of(data), next(walk(data).tensors()), most=100)
    assert read is not None
    np.testing.assert_array_equal(read, values)
    assert read.dtype == values.dtype


def test_a_field_given_twice_is_refused() -> None:
    data = model_with().SerializeToString()
    graph = next(span for span in _top_level(data) if span[0] == 7)
    assert code_of(data + data[graph[1] : graph[2]]) == "onnx.malformed"
    assert code_of(data + b"\x08\x0a") == "onnx.malformed"


@pytest.mark.parametrize(
    "extra",
    [
        b"\x0b\x0c",
        b"\x0c",
        b"\x0e",
        b"\x00\x00",
        b"\x3a",
        b"\x3d\0\0\0\0",
        b"\x80" * 11,
        b"\x42\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x12\x02\xff\xfe",
    ],
)
def test_broken_wire_data_is_refused(extra: bytes) -> None:
    assert code_of(model_with().SerializeToString() + extra) == "onnx.malformed"


def test_unknown_fields_are_skipped() -> None:
    assert code_of(model_with().SerializeToString() + b"\x98\x06\x01" + b"\x9a\x06\x03abc") == ""


def test_types_nested_too_deep_are_refused() -> None:
    model = model_with()
    model.graph.input[0].type.Clear()
    inner = model.graph.input[0].type
    for _ in range(20):
        inner = inner.sequence_type.elem_type
    inner.tensor_type.elem_type = 1
    assert code_of(model.SerializeToString()) == "onnx.limit"


def test_a_type_that_is_two_things_at_once_is_refused() -> None:
    tensor = helper.make_tensor_type_proto(1, [2])
    both = tensor.SerializeToString() + helper.make_sequence_type_proto(tensor).SerializeToString()
    port = samples.wire_field(11, samples.wire_field(1, b"x") + samples.wire_field(2, both))
    imports = samples.wire_field(8, helper.make_opsetid("", 17).SerializeToString())
    assert code_of(b"\x08\x0a" + samples.wire_field(7, port) + imports) == "onnx.malformed"


def test_versions_beyond_the_runtime_are_refused() -> None:
    for bend in (
        lambda m: setattr(m, "ir_version", 15),
        lambda m: setattr(m, "ir_version", 0),
        lambda m: setattr(m.opset_import[0], "version", 29),
    ):
        model = model_with()
        bend(model)
        assert code_of(model.SerializeToString()) == "onnx.opset"
    undeclared = model_with()
    del undeclared.opset_import[:]
    assert code_of(undeclared.SerializeToString()) == "onnx.opset"
    twice = model_with()
    twice.opset_import.append(helper.make_opsetid("", 17))
    assert code_of(twice.SerializeToString()) == "onnx.malformed"


def test_custom_domains_are_refused_unless_the_model_defines_them(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert code_of(samples.custom_domain(path).read_bytes()) == "onnx.op_domain"
    assert code_of(samples.custom_domain(path, domain="com.microsoft", op="EPContext").read_bytes()) == "onnx.op_domain"
    assert code_of(samples.custom_domain(path, domain="com.microsoft", op="Gelu").read_bytes()) == ""
    assert code_of(samples.with_function(path).read_bytes()) == ""


def test_a_custom_operator_inside_a_function_or_branch_is_found(tmp_path: Path) -> None:
    model = onnx.load(samples.with_function(tmp_path / "m.onnx"))
    model.functions[0].node[0].domain = "evil.ops"
    assert code_of(model.SerializeToString()) == "onnx.op_domain"
    model = onnx.load(samples.branch(tmp_path / "m.onnx"))
    model.graph.node[0].attribute[0].g.node[0].domain = "evil.ops"
    assert code_of(model.SerializeToString()) == "onnx.op_domain"


def _top_level(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of the top-level fields."""
    reader = reader_of(data)
    starts = [(number, offset) for number, _, _, offset in reader._scan((0, len(data)))]
    for (number, start), (_, end) in itertools.pairwise([*starts, (0, len(data))]):
        yield number, start, end


@pytest.fixture(scope="module")
def classifier() -> bytes:
    return samples.sample_path("S2.cls").read_bytes()


def test_a_model_cut_at_any_percent_is_refused(classifier: bytes) -> None:
    codes = {code_of(classifier[: len(classifier) * percent // 100]) for percent in range(100)}
    assert codes <= {"onnx.malformed", "onnx.opset"}
    assert "" not in codes


def test_a_model_with_a_bit_flipped_at_any_percent_is_read_or_refused(classifier: bytes) -> None:
    for percent, bit in zip(range(100), itertools.cycle(range(8)), strict=False):
        bent = bytearray(classifier)
        bent[len(bent) * percent // 100] ^= 1 << bit
        assert code_of(bytes(bent)).split(".")[0] in ("", "onnx")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    builders = (samples.mlp, samples.branch, samples.loop, samples.with_function, samples.encoder)
    found = [build(folder / "m.onnx").read_bytes() for build in builders]
    return [*found, samples.external(folder / "ext").read_bytes()]


SMALL = replace(CAPS, fields=100_000)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_mutated_model_is_read_or_refused_with_a_code(seeds: list[bytes], data: st.DataObject) -> None:
    model = bytearray(data.draw(st.sampled_from(seeds)))
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, len(model) - 1), st.integers(0, 255)), max_size=6)):
        model[place] = byte
    start = data.draw(st.integers(0, len(model)))
    length = data.draw(st.integers(0, 16))
    model[start : start + length] = data.draw(st.binary(max_size=16))
    assert code_of(bytes(model), caps=SMALL).split(".")[0] in ("", "onnx")


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_random_bytes_are_refused_with_a_code(data: bytes) -> None:
    assert code_of(b"\x08\x0a" + data, caps=SMALL).startswith("onnx.")
