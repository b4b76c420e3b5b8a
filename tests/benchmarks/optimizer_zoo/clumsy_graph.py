"""Writes a trained ResNet as an old TensorFlow exporter would: right, and with several needless nodes for every one that is needed.

Tensors are NHWC and every convolution turns them to NCHW and back, casts float to float, keeps its normalisation apart, and the
shape that a tensor has anyway is computed and given to it again. Weights are read from PyTorch modules; torch is not imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]

OPSET, IR_VERSION = 11, 6
TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


class ClumsyWriter:
    """Nodes and tensors of one graph; every other unit spells its normalisation out."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._units = 0

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: Any) -> str:
        """An initializer of the array, a number or a list."""
        name = f"const_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def unit(self, source: str, module: Any, *, size: int, relu: bool) -> str:
        """Convolution and normalisation of ``module`` (a ConvNorm) from NHWC to NHWC, ``size`` pixels wide afterwards."""
        conv, norm = module[0], module[1]
        border = conv.padding[0]
        if conv.stride[0] > 1 and border:
            source = self.add("Pad", source, self.constant([0, border, border, 0, 0, border, border, 0]))
            border = 0
        turned = self.add("Cast", self.add("Transpose", source, perm=TO_NCHW), to=TensorProto.FLOAT)
        weight, kernel = self.constant(_array(conv.weight)), list(conv.kernel_size)
        found = self.add("Conv", turned, weight, kernel_shape=kernel, strides=list(conv.stride), pads=[border] * 4)
        found = self.add("Transpose", self._normalised(found, norm), perm=TO_NHWC)
        found = self.add("Relu", found) if relu else found
        return self.restated(found, [size, size, conv.out_channels])

    def _normalised(self, source: str, norm: Any) -> str:
        scale, shift, mean, variance = (_array(one) for one in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
        self._units += 1
        if self._units % 2:
            return self.add("BatchNormalization", source, *map(self.constant, (scale, shift, mean, variance)), epsilon=norm.eps)
        factor = scale / np.sqrt(variance + np.float32(norm.eps))
        centred = self.add("Sub", source, self.constant(mean.reshape(1, -1, 1, 1)))
        scaled = self.add("Mul", centred, self.constant(factor.reshape(1, -1, 1, 1)))
        return self.add("Add", scaled, self.constant(shift.reshape(1, -1, 1, 1)))

    def restated(self, source: str, rest: list[int]) -> str:
        """The tensor in the shape it has: its first dim is looked up and joined with the others, which are known."""
        batch = self.add("Gather", self.add("Shape", source), self.constant(np.array(0)), axis=0)
        wanted = self.add("Concat", self.add("Unsqueeze", batch, axes=[0]), self.constant(rest), axis=0)
        return self.add("Identity", self.add("Cast", self.add("Reshape", source, wanted), to=TensorProto.FLOAT))

    def bottleneck(self, source: str, block: Any, *, size: int) -> tuple[str, int]:
        """A block from NHWC to NHWC, and how wide its output is."""
        reduce, middle, expand = block.body
        narrow = -(-size // middle[0].stride[0])
        inner = self.unit(source, reduce, size=size, relu=True)
        inner = self.unit(inner, middle, size=narrow, relu=True)
        inner = self.unit(inner, expand, size=narrow, relu=False)
        has_own = len(list(block.shortcut.children())) > 0
        beside = self.unit(source, block.shortcut, size=narrow, relu=False) if has_own else self.add("Identity", source)
        return self.add("Relu", self.add("Add", inner, beside)), narrow

    def head(self, source: str, linear: Any) -> str:
        pooled = self.add("ReduceMean", source, axes=[1, 2], keepdims=0)
        flat = self.restated(pooled, [linear.in_features])
        product = self.add("MatMul", flat, self.constant(_array(linear.weight).T))
        return self.add("Add", product, self.constant(_array(linear.bias)))


def write_clumsy(module: Any, path: Path, *, side: int) -> Path:
    """Write ``module`` (a ThinResNet50 in eval mode): ``image`` f32 [1, side, side, 3] -> ``scores`` f32 [1, 10]."""
    writer = ClumsyWriter()
    current = writer.unit(writer.add("Cast", "image", to=TensorProto.FLOAT), module.stem, size=side // 2, relu=True)
    turned = writer.add("Transpose", current, perm=TO_NCHW)
    pooled = writer.add("MaxPool", turned, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    current, size = writer.add("Transpose", pooled, perm=TO_NHWC), side // 4
    for block in module.blocks:
        current, size = writer.bottleneck(current, block, size=size)
    scores = writer.head(current, module.head)
    writer.nodes.append(helper.make_node("Identity", [scores], ["scores"], name="scores"))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, side, side, 3])
    answer = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, module.head.out_features])
    graph = helper.make_graph(writer.nodes, "resnet", [image], [answer], writer.tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="tf-exporter")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _array(parameter: Any) -> Array:
    return np.asarray(parameter.detach().numpy(), np.float32)
