"""An ONNX graph as a PyTorch module whose parameters are the graph's own weights, and the graph again with what they became.

Nothing is exported: a trained module is the same graph with other numbers. Imports torch: import this where it is needed only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from optimizer.passes.errors import PassFailed
from optimizer.passes.onnx_files import constants_to_initializers, copied, real_inputs
from optimizer.passes.training.calls import Call, arrays_of, calls_of
from optimizer.passes.training.operators import OPERATORS, along, straight_through

Array = np.ndarray[Any, Any]
TRAINED_INPUTS: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "PRelu": (1,),
    "Add": (0, 1),
    "Sub": (0, 1),
    "Mul": (0, 1),
    "Div": (0, 1),
}
"""Which inputs of an operator are weights. Single numbers (an epsilon, a root) are none."""
DEQUANTIZE = "DequantizeLinear"


class GraphModule:
    """Called with one tensor per graph input, shapes as one call of the model has them; answers with one tensor per output.

    int8 and int32 weights behind DequantizeLinear train as the floats they stand for and are rounded in every forward pass;
    ``narrow`` keeps int8 weights within 7 bits. ``exact`` gives floats for them to begin with, by the name without ``_quantized``.
    """

    def __init__(self, model: onnx.ModelProto, *, narrow: bool = False, exact: Mapping[str, Array] | None = None) -> None:
        self._model = copied(model)
        constants_to_initializers(self._model)
        self._calls = calls_of(self._model)
        self._limit = 64 if narrow else 127
        self._inputs = [value.name for value in real_inputs(self._model)]
        self._outputs = [value.name for value in self._model.graph.output]
        self.weights: dict[str, Tensor] = {}
        """What is trained, by the names of the values in the graph."""
        self._constants: dict[str, Tensor] = {}
        self._stored: dict[str, Call] = {}
        for call in self._calls:
            if call.kind not in OPERATORS:
                raise call.refuse("there is no counterpart for it")
        self._take_weights(arrays_of(self._model), exact or {})
        self._drop_after = self._last_uses()

    def _take_weights(self, arrays: Mapping[str, Array], exact: Mapping[str, Array]) -> None:
        wanted = {
            name
            for call in self._calls
            for index, name in enumerate(call.inputs)
            if index in TRAINED_INPUTS.get(call.kind, ()) and name in arrays and arrays[name].size > 1
        }
        self._stored = {
            call.outputs[0]: call
            for call in self._calls
            if call.kind == DEQUANTIZE and call.inputs[0] in arrays and arrays[call.inputs[0]].dtype.kind in "iu"
        }
        for name, array in arrays.items():
            if array.dtype.kind not in "fiub":
                raise PassFailed(f"The constant {name!r} has the type {array.dtype}, which cannot be trained with.")
            self._constants[name] = torch.from_numpy(array.copy())
        for name in sorted(wanted):
            if arrays[name].dtype == np.float32:
                self._train(name, torch.from_numpy(arrays[name].copy()))
        for call in self._stored.values():
            self._train(call.outputs[0], self._floats_of(call, exact))

    def _floats_of(self, call: Call, exact: Mapping[str, Array]) -> Tensor:
        known = exact.get(call.inputs[0].removesuffix("_quantized"))
        stored = OPERATORS[DEQUANTIZE](call, [self._constants[name] if name else None for name in call.inputs])
        is_known = known is not None and known.shape == tuple(stored.shape) and known.dtype == np.float32
        return torch.from_numpy(np.array(known)) if is_known else stored

    def _train(self, name: str, value: Tensor) -> None:
        self.weights[name] = value.detach().clone().requires_grad_()

    def _last_uses(self) -> list[list[str]]:
        """Values that nothing needs after each call."""
        last: dict[str, int] = {name: index for index, call in enumerate(self._calls) for name in call.inputs if name}
        found: list[list[str]] = [[] for _ in self._calls]
        for name, index in last.items():
            if name not in self._outputs:
                found[index].append(name)
        return found

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights."""
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Back to the weights of ``state``."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state[name])

    def forget_gradients(self) -> None:
        for weight in self.weights.values():
            weight.grad = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = self.values(*inputs, keep=False)
        return tuple(values[name] for name in self._outputs)

    def values(self, *inputs: Tensor, keep: bool = True) -> dict[str, Tensor]:
        """Every value of the graph by name."""
        values: dict[str, Tensor] = {**self._constants, **self.weights}
        values.update(zip(self._inputs, inputs, strict=True))
        for call, unused in zip(self._calls, self._drop_after, strict=True):
            if call.outputs[0] in self._stored:
                values[call.outputs[0]] = self._rounded(call)
                continue
            given = [values[name] if name else None for name in call.inputs]
            made = OPERATORS[call.kind](call, given)
            outputs = made if isinstance(made, tuple) else (made,)
            values.update(zip(call.outputs, outputs, strict=False))
            if not keep:
                for name in unused:
                    values.pop(name, None)
        return values

    def _scale(self, call: Call, like: Tensor) -> Tensor:
        return along(call, like, self._constants[call.inputs[1]])

    def _whole(self, call: Call) -> tuple[Tensor, Tensor]:
        """(the stored weight's nearest whole numbers, the exact ones), in units of its scale."""
        parameter = self.weights[call.outputs[0]]
        exact = parameter / self._scale(call, parameter)
        if self._constants[call.inputs[0]].dtype == torch.int8:
            exact = exact.clamp(-self._limit, self._limit)
        return torch.round(exact), exact

    def _rounded(self, call: Call) -> Tensor:
        whole, exact = self._whole(call)
        return straight_through(whole, exact) * self._scale(call, exact)

    def to_model(self) -> onnx.ModelProto:
        """The graph with the weights as they are now."""
        model = copied(self._model)
        quantized = {call.inputs[0]: call for call in self._stored.values()}
        for tensor in model.graph.initializer:
            if tensor.name in quantized:
                array = self._whole(quantized[tensor.name])[0].detach().numpy().astype(numpy_helper.to_array(tensor).dtype)
            elif tensor.name in self.weights:
                array = self.weights[tensor.name].detach().numpy()
            else:
                continue
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
        return model


def as_tensors(arrays: Sequence[Array]) -> list[Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]


def run_batch(module: GraphModule, examples: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The module on each of the examples [n, ...] as a call of its own, all at once; outputs [n, ...]."""
    found: tuple[Tensor, ...] = torch.vmap(module)(*examples)
    return found
