"""A backend: ONNX's reference evaluator. It is written for meaning, not for speed; a partner's own would open a device here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from optimizer.backends.base import Available, Feeds, Missing, SettingsVariant
from optimizer.backends.errors import InputRefused, LoadFailed, RunFailed, SettingRefused, Unsupported, check_shapes, explain_feeds
from optimizer.passes.onnx_files import graphs, real_inputs
from optimizer.specs import BackendSettings, HardwareProfile, ModelCard, Precision, TensorSpec

LARGEST_FLOPS = 50_000_000
"""Beyond this a single call takes too long to be worth a trial."""


class ReferenceSession:
    """An opened model; outputs are the caller's own."""

    def __init__(self, evaluator: ReferenceEvaluator, *, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self.inputs, self.outputs = inputs, outputs
        self._evaluator: ReferenceEvaluator | None = evaluator

    def run(self, feeds: Feeds) -> list[np.ndarray[Any, Any]]:
        if self._evaluator is None:
            raise RunFailed("The session is closed.")
        mismatch = explain_feeds(self.inputs, feeds)
        if mismatch:
            raise InputRefused(mismatch)
        try:
            return [np.array(output) for output in self._evaluator.run(None, dict(feeds))]
        except Exception as error:  # operators raise anything
            raise RunFailed(f"The reference evaluator failed while running the model: {error}") from error

    def facts(self) -> dict[str, Any]:
        return {"runtime": f"acme_reference {onnx.__version__}", "precision": "f32", "threads": 1}

    def close(self) -> None:
        self._evaluator = None


class Reference:
    """Opens ONNX files with ``onnx.reference``."""

    name = "acme_reference"
    formats = frozenset({"onnx"})

    def availability(self) -> Available | Missing:
        return Available(version=onnx.__version__)

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[SettingsVariant]:
        if (card.flops or 0) > LARGEST_FLOPS:
            return ()
        return (SettingsVariant(settings=BackendSettings(threads=1), accuracy_invariant=True, why="the standard's own evaluator"),)

    def open(
        self,
        artifact: Path,
        settings: BackendSettings,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        cache_dir: Path | None = None,
    ) -> ReferenceSession:
        _refuse_settings(settings)
        model = _loaded(artifact)
        _refuse_operators(model)
        inputs = tuple(_tensor(value) for value in real_inputs(model))
        outputs = tuple(_tensor(value) for value in model.graph.output)
        check_shapes(inputs, shapes or {})
        try:
            return ReferenceSession(ReferenceEvaluator(model), inputs=inputs, outputs=outputs)
        except Exception as error:  # the evaluator's exceptions share no base class
            raise Unsupported(f"The reference evaluator does not support a part of the model: {error}") from error


def _refuse_settings(settings: BackendSettings) -> None:
    """Nothing is ignored silently."""
    if settings.device != "CPU" or settings.provider:
        raise SettingRefused(f"acme_reference computes on the CPU, not on {settings.provider or settings.device}.")
    if settings.precision is not Precision.F32 or settings.streams != 1 or (settings.threads or 1) != 1:
        raise SettingRefused("acme_reference computes in f32, on one thread, in one stream: ask for that.")
    if settings.extra:
        raise SettingRefused(f"acme_reference has no setting {next(iter(settings.extra))!r}.")


def _loaded(artifact: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(artifact))
    except Exception as error:  # protobuf and the file system each raise their own
        raise LoadFailed(f"The model file cannot be read: {error}") from error
    if not model.graph.output:
        raise LoadFailed("The file holds no ONNX graph with outputs.")
    return model


def _refuse_operators(model: onnx.ModelProto) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for graph in graphs(model.graph):
        for node in graph.node:
            if (node.domain, node.op_type) not in own and not onnx.defs.has(node.op_type, node.domain):
                raise Unsupported(f"The reference evaluator does not know the operator {node.op_type} (node {node.name!r}).")


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    if value.type.WhichOneof("value") != "tensor_type":
        raise Unsupported(f"{value.name!r} is no plain tensor; only those can be fed and read.")
    kind = value.type.tensor_type.elem_type
    if kind == onnx.TensorProto.STRING:
        dtype = "string"
    else:
        dtype = helper.tensor_dtype_to_np_dtype(kind).name
        if not hasattr(np, dtype):
            raise Unsupported(f"{value.name!r} holds {dtype}, which the reference evaluator does not exchange with numpy.")
    dims = value.type.tensor_type.shape.dim
    return TensorSpec(
        name=value.name, dtype=dtype, shape=tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims)
    )
