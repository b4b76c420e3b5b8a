"""Every operator that a training pass knows gives in PyTorch what ONNX Runtime gives, alone and for several examples at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimizer.passes.errors import PassFailed
from optimizer.passes.verify import plain_session
from optimizer.rounding import agrees_to_rounding

EXAMPLES = 3


def floats(*shape: int, seed: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One node: input ``x`` of ``shape``, further inputs stored in the graph, attributes."""

    kind: str
    shape: tuple[int, ...] = (2, 3, 6, 6)
    more: tuple[np.ndarray[Any, Any] | None, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    positive: bool = False
    opset: int = 20
    first: np.ndarray[Any, Any] | None = None

    def build(self, path: Path) -> Path:
        stored = {f"c{index}": array for index, array in enumerate(self.more) if array is not None}
        names = ["x", *(f"c{index}" if array is not None else "" for index, array in enumerate(self.more))]
        results = [f"y{index}" for index in range(self.outputs)]
        before: list[onnx.NodeProto] = []
        if self.first is not None:
            stored["table"] = self.first
            names = ["table", "x"]
        nodes = [*before, helper.make_node(self.kind, names, results, **self.attributes)]
        graph = helper.make_graph(
            nodes,
            "case",
            [helper.make_tensor_value_info("x", self.dtype, list(self.shape))],
            [helper.make_empty_tensor_value_info(name) for name in results],
            [numpy_helper.from_array(array, name) for name, array in stored.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        model = onnx.shape_inference.infer_shapes(model)
        onnx.save(model, path)
        return path

    @property
    def dtype(self) -> int:
        if self.first is not None:
            return TensorProto.INT64
        return TensorProto.BOOL if self.kind in ("And", "Or", "Not", "Where") else TensorProto.FLOAT

    def values(self) -> np.ndarray[Any, Any]:
        made = floats(EXAMPLES, *self.shape, seed=5)
        if self.dtype == TensorProto.INT64:
            return np.random.default_rng(1).integers(-3, 3, (EXAMPLES, *self.shape))
        if self.dtype == TensorProto.BOOL:
            return made > 0
        return np.abs(made) + 0.1 if self.positive else made


def constant(**value: Any) -> Case:
    return Case(kind="Constant", attributes=value)


ROW = (2, 5)
TABLE = [
    *(Case(kind=kind) for kind in ("Abs", "Ceil", "Erf", "Exp", "Floor", "Identity", "Neg", "Relu", "Selu", "Sigmoid", "Softplus", "Tanh")),
    *(Case(kind=kind, positive=True) for kind in ("Log", "Reciprocal", "Sqrt")),
    *(Case(kind=kind, more=(floats(3, 1, 1),)) for kind in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Greater", "Less", "Sum", "PRelu")),
    *(Case(kind=kind, more=(floats(6),)) for kind in ("Equal", "GreaterOrEqual", "LessOrEqual")),
    *(Case(kind=kind, more=(floats(6) > 0,)) for kind in ("And", "Or")),
    Case(kind="Not"),
    Case(kind="Where", more=(floats(6), floats(2, 3, 6, 6))),
    Case(kind="Pow", more=(np.float32(2.0),)),
    Case(kind="Clip", more=(np.float32(-0.5), np.float32(0.7))),
    Case(kind="Clip", more=(None, np.float32(0.7))),
    Case(kind="Clip", attributes={"min": -0.2, "max": 6.0}, opset=6),
    Case(kind="Cast", attributes={"to": TensorProto.INT64}),
    Case(kind="Elu", attributes={"alpha": 0.7}),
    Case(kind="LeakyRelu", attributes={"alpha": 0.2}),
    Case(kind="HardSigmoid", attributes={"alpha": 0.17}),
    Case(kind="HardSwish"),
    Case(kind="Gelu"),
    Case(kind="Gelu", attributes={"approximate": "tanh"}),
    Case(kind="Dropout"),
    Case(kind="Softmax", attributes={"axis": 1}),
    Case(kind="Softmax", attributes={"axis": 2}, opset=11),
    Case(kind="LogSoftmax"),
    Case(kind="Conv", more=(floats(4, 3, 3, 3), floats(4)), attributes={"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    Case(kind="Conv", more=(floats(4, 3, 2, 2),), attributes={"pads": [0, 1, 1, 0], "dilations": [2, 1]}),
    Case(kind="Conv", more=(floats(6, 1, 3, 3),), attributes={"group": 3, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case(kind="Conv", more=(floats(4, 3, 3, 3),), attributes={"auto_pad": "SAME_LOWER"}),
    Case(kind="Conv", shape=(1, 3, 9), more=(floats(4, 3, 3),), attributes={"auto_pad": "VALID"}),
    Case(kind="ConvTranspose", more=(floats(3, 2, 3, 3), floats(2)), attributes={"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    Case(kind="Gemm", shape=ROW, more=(floats(4, 5), floats(4)), attributes={"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case(kind="Gemm", shape=(5, 2), more=(floats(5, 4),), attributes={"transA": 1}),
    Case(kind="MatMul", shape=(2, 4, 5), more=(floats(5, 3),)),
    Case(kind="BatchNormalization", more=(floats(3), floats(3), floats(3), np.abs(floats(3)) + 0.2), attributes={"epsilon": 1e-3}),
    Case(kind="InstanceNormalization", more=(floats(3), floats(3))),
    Case(kind="LayerNormalization", more=(floats(6), floats(6))),
    Case(kind="LayerNormalization", more=(floats(6, 6),), attributes={"axis": -2, "epsilon": 1e-3}),
    Case(kind="MaxPool", attributes={"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    Case(kind="MaxPool", attributes={"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "dilations": [2, 2]}),
    Case(kind="MaxPool", shape=(2, 3, 7, 7), attributes={"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case(kind="AveragePool", attributes={"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "strides": [2, 2]}),
    Case(kind="AveragePool", attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case(kind="GlobalAveragePool"),
    Case(kind="GlobalMaxPool"),
    Case(kind="ReduceMean", more=(ints(2, 3),)),
    Case(kind="ReduceMean", attributes={"axes": [1], "keepdims": 0}, opset=13),
    *(Case(kind=kind, more=(ints(-1),)) for kind in ("ReduceMax", "ReduceMin", "ReduceL2")),
    Case(kind="ReduceSum"),
    Case(kind="ReduceSum", attributes={"noop_with_empty_axes": 1}),
    Case(kind="Concat", more=(floats(2, 1, 6, 6),), attributes={"axis": 1}),
    Case(kind="Flatten"),
    Case(kind="Flatten", attributes={"axis": -1}),
    Case(kind="Reshape", more=(ints(0, -1, 6),)),
    Case(kind="Reshape", shape=(1, 3, 4), more=(ints(1, 12),)),
    Case(kind="Transpose", attributes={"perm": [0, 2, 3, 1]}),
    Case(kind="Transpose"),
    Case(kind="Squeeze", shape=(1, 3, 1), more=(ints(-1),)),
    Case(kind="Squeeze", shape=(1, 3, 1)),
    Case(kind="Squeeze", shape=(1, 3, 1), attributes={"axes": [0]}, opset=11),
    Case(kind="Unsqueeze", more=(ints(0, -1),)),
    Case(kind="Slice", more=(ints(1, 0), ints(3, 2**40), ints(1, -1), ints(1, 2))),
    Case(kind="Slice", attributes={"starts": [0], "ends": [-1], "axes": [2]}, opset=9),
    Case(kind="Split", outputs=2, more=(ints(1, 2),), attributes={"axis": 1}),
    Case(kind="Split", outputs=2, attributes={"axis": 2, "num_outputs": 2}),
    Case(kind="Gather", more=(ints(0, -1),), attributes={"axis": 1}),
    Case(kind="Gather", more=(np.array(1),), attributes={"axis": 2}),
    Case(kind="Gather", shape=(1, 4), first=floats(3, 5)),
    Case(kind="Expand", shape=(3, 1), more=(ints(2, 1, 4),)),
    Case(kind="Pad", more=(ints(0, 0, 1, 2, 0, 0, 0, 1), np.float32(0.5))),
    Case(kind="Pad", attributes={"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 1.0}, opset=10),
    Case(kind="Shape"),
    Case(kind="Shape", attributes={"start": 1, "end": 3}),
    Case(kind="QuantizeLinear", more=(np.float32(0.05), np.uint8(120))),
]  # fmt: skip


def answers(path: Path, x: np.ndarray[Any, Any]) -> list[list[np.ndarray[Any, Any]]]:
    session = plain_session(path)
    return [session.run(None, {"x": one}) for one in x]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case.kind}-{case.opset}")
def test_an_operator_agrees_with_onnx_runtime(tmp_path: Path, case: Case) -> None:
    from optimizer.passes.training.module import GraphModule, as_tensors, run_batch

    path = case.build(tmp_path / "m.onnx")
    x = case.values()
    found = run_batch(GraphModule(onnx.load(path)), as_tensors([x]))
    for index, wanted in enumerate(answers(path, x)):
        for ours, theirs in zip(found, wanted, strict=True):
            one = ours[index].detach().numpy()
            if case.kind == "QuantizeLinear":
                one = one.astype(theirs.dtype)
            assert one.shape == theirs.shape
            assert agrees_to_rounding(theirs, one)


CONSTANTS = {
    "value": {"value": numpy_helper.from_array(floats(2))},
    "value_float": {"value_float": 2.5},
    "value_floats": {"value_floats": [1.0, 2.0]},
    "value_int": {"value_int": 3},
    "value_ints": {"value_ints": [3, 4]},
}


@pytest.mark.parametrize("how", CONSTANTS)
def test_constants_inside_the_graph_are_read(tmp_path: Path, how: str) -> None:
    from optimizer.passes.training.module import GraphModule, as_tensors, run_batch

    nodes = [
        helper.make_node("Constant", [], ["c"], **CONSTANTS[how]),
        helper.make_node("Cast", ["c"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["two"], value=numpy_helper.from_array(np.array([2.0], np.float32))),
        helper.make_node("Add", ["x", "f"], ["z"]),
        helper.make_node("Mul", ["z", "two"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    x = floats(EXAMPLES, 2)
    found = run_batch(GraphModule(model), as_tensors([x]))[0]
    for index, wanted in enumerate(answers(tmp_path / "m.onnx", x)):
        assert agrees_to_rounding(wanted[0], found[index].detach().numpy())


def test_every_operator_of_the_table_is_shown() -> None:
    from optimizer.passes.training.operators import OPERATORS

    shown = {case.kind for case in TABLE} | {"Constant", "ConstantOfShape", "DequantizeLinear"}
    assert shown == set(OPERATORS)


@pytest.mark.parametrize(
    "case",
    [
        Case(kind="Pad", more=(ints(0, 0, 1, 1, 0, 0, 1, 1),), attributes={"mode": "reflect"}),
        Case(kind="Slice", more=(ints(-1), ints(-7), ints(2), ints(-1))),
        Case(kind="MaxPool", attributes={"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "strides": [2, 2], "ceil_mode": 1}),
        Case(kind="CumSum", more=(np.array(1),)),
    ],
    ids=lambda case: case.kind,
)
def test_what_has_no_counterpart_is_refused_by_operator_and_node(tmp_path: Path, case: Case) -> None:
    from optimizer.passes.training.module import GraphModule, as_tensors, run_batch

    model = onnx.load(case.build(tmp_path / "m.onnx"))
    model.graph.node[0].name = "the node"
    with pytest.raises(PassFailed, match=rf"{case.kind} \(node 'the node'\)"):
        run_batch(GraphModule(model), as_tensors([case.values()]))


def test_operators_of_other_sets_are_refused(tmp_path: Path) -> None:
    from optimizer.passes.training.module import GraphModule
    from tests import samples

    with pytest.raises(PassFailed, match=r"operator set 'acme\.ops'"):
        GraphModule(onnx.load(samples.custom_domain(tmp_path / "m.onnx")))
