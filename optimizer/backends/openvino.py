"""OpenVINO: compiles an ONNX file or an OpenVINO IR for this host at an explicitly stated precision."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from optimizer.backends.base import Available, Feeds, Missing, Run, SettingsVariant
from optimizer.backends.errors import (
    BackendMissing,
    InputRefused,
    LoadFailed,
    RunFailed,
    SettingRefused,
    Unsupported,
    check_shapes,
    explain_feeds,
)
from optimizer.backends.hints import precisions, quota_threads, stream_counts, thread_counts
from optimizer.backends.start_cache import Found, conditions, find, write_stamp
from optimizer.formats.onnx_graph import mapped, walk
from optimizer.specs import BackendSettings, ExecutedNode, HardwareProfile, ModelCard, Precision, TensorSpec

NUMPY_NAMES = {
    "f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16", "boolean": "bool", "string": "string",
    **{f"{kind}{bits}": f"{'u' if kind == 'u' else ''}int{bits}" for kind in "iu" for bits in (8, 16, 32, 64)},
}  # fmt: skip
NUMPY_TYPES = frozenset(NUMPY_NAMES.values()) - {"bfloat16"}
OWN_SETTINGS = {
    "INFERENCE_PRECISION_HINT": "precision",
    "INFERENCE_NUM_THREADS": "threads",
    "NUM_STREAMS": "streams",
    "CACHE_DIR": "cache folder",
}
"""Properties that a recipe states elsewhere; a second place could contradict what the recipe claims."""
INSTALL = "pip install openvino"
PREPARED = "prepared.blob"
MAX_BOUND_TENSORS = 4096
REFUSED_OPS = (
    re.compile(r"No conversion rule (?:found )?for operations?:? (?P<op>[^\n]+)"),
    re.compile(r"OpenVINO does not support the following ONNX operations: (?P<op>[^\n]+)"),
    re.compile(r"Unsupported operation of type: (?P<op>\w+)(?: name: (?P<node>\S+))?"),
    re.compile(r"(?P<op>\w+) operation.* (?:is not|isn't) supported"),
)


class _Request:
    """One request of a compiled model. Feeds are read in place; outputs are copied out and owned by the caller."""

    __slots__ = ("_bound", "_infer", "_inputs", "_names", "_request")

    def __init__(self, compiled: Any, *, inputs: Sequence[TensorSpec], names: Sequence[str]) -> None:
        self._inputs, self._names = inputs, tuple(names)
        self._request = compiled.create_infer_request()
        self._infer = self._request.infer
        self._bound: dict[int, tuple[np.ndarray[Any, Any], Any]] = {}

    def run(self, feeds: Feeds) -> list[np.ndarray[Any, Any]]:
        try:
            request, bound = self._request, self._bound
            for index, name in enumerate(self._names):
                array = feeds[name]
                entry = bound.get(id(array)) or self._bind(array)
                request.set_input_tensor(index, entry[1])
            return [array.copy() for array in self._infer(share_outputs=True, decode_strings=False).values()]
        except Exception as error:  # the runtime raises plain RuntimeError and pybind's TypeError
            raise _run_error(error, inputs=self._inputs, feeds=feeds) from error

    @property
    def profile(self) -> dict[str, float]:
        """Microseconds of each executed node in the last run."""
        return {one.node_name: one.real_time.total_seconds() * 1e6 for one in self._request.profiling_info if one.real_time}

    def close(self) -> None:
        self._bound.clear()
        self._request = self._infer = None

    def _bind(self, array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], Any]:
        """Wrap an array without a copy and remember it; holding the array keeps its id from being reused."""
        if not isinstance(array, np.ndarray):
            raise TypeError("not an array")
        if len(self._bound) >= MAX_BOUND_TENSORS:
            self._bound.clear()
        is_shareable = array.flags.c_contiguous and array.flags.writeable  # the runtime shares no read-only memory
        entry = (array, _openvino().Tensor(array, shared_memory=is_shareable))
        if is_shareable:
            self._bound[id(array)] = entry
        return entry


class OpenVinoSession:
    """One compiled model with a request per stream; ``run`` is the first one's."""

    __slots__ = ("_compiled", "_facts", "_requests", "inputs", "outputs", "run")

    def __init__(
        self, compiled: Any, *, inputs: Sequence[TensorSpec], names: Sequence[str], facts: dict[str, Any], streams: int = 1
    ) -> None:
        self.inputs = inputs
        self.outputs: Sequence[TensorSpec] = tuple(_tensor(port) for port in compiled.outputs)
        self._compiled = compiled
        self._requests = tuple(_Request(compiled, inputs=inputs, names=names) for _ in range(streams))
        self.run: Run = self._requests[0].run
        self._facts = facts

    def lanes(self) -> Sequence[Run]:
        return [request.run for request in self._requests]

    def facts(self) -> dict[str, Any]:
        return {**self._facts, **_runtime_facts(self._compiled)}

    def nodes(self) -> tuple[ExecutedNode, ...]:
        """What is executed, in order; with times where the session was opened with PERF_COUNT and has run."""
        times = self._requests[0].profile
        return tuple(_executed(node, times) for node in _executed_ops(self._compiled))

    def close(self) -> None:
        for request in self._requests:
            request.close()
        self._compiled = None


class OpenVino:
    """Opens ONNX files and OpenVINO IRs with OpenVINO's CPU, GPU and NPU plugins."""

    name = "openvino"
    formats = frozenset({"onnx", "openvino_ir"})

    def availability(self) -> Available | Missing:
        try:
            ov = _openvino()
        except ImportError as error:
            return Missing(reason=f"openvino cannot be imported: {error}", install=INSTALL)
        return Available(version=ov.__version__.split("-")[0], devices=tuple(ov.Core().available_devices))

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[SettingsVariant]:
        first, *others = thread_counts(card, hardware)
        ranked = precisions(hardware)
        fast, slow = ranked[: ranked.index(Precision.F32) + 1], ranked[ranked.index(Precision.F32) + 1 :]
        chosen = [_variant(first, precision) for precision in fast]
        chosen += [_variant(threads, fast[0]) for threads in others]
        return tuple(chosen + [_variant(first, precision) for precision in slow])

    def stream_counts(self, hardware: HardwareProfile) -> Sequence[int]:
        return stream_counts(hardware)

    def open(
        self,
        artifact: Path,
        settings: BackendSettings,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        cache_dir: Path | None = None,
    ) -> OpenVinoSession:
        ov = _required()
        core = ov.Core()
        if settings.device not in core.available_devices:
            raise SettingRefused(f"OpenVINO sees no device {settings.device}; it offers {', '.join(core.available_devices)}.")
        start = find(artifact, _conditions(ov, artifact, settings, shapes)) if settings.cached else Found()
        if start.file:
            return _imported(ov, core, start, settings)
        model, names, inputs = _shaped(core, artifact, settings, shapes)
        compiled = _compile(core, model, settings, cache_dir=cache_dir)
        facts = {"runtime": f"openvino {ov.__version__}", "cached": cache_dir is not None}
        if settings.cached:
            facts["start_cache"] = start.fact
        return OpenVinoSession(compiled, inputs=inputs, names=names, facts=facts, streams=settings.streams)

    def prepare(self, artifact: Path, settings: BackendSettings, *, shapes: Mapping[str, tuple[int, ...]] | None, folder: Path) -> None:
        """Write the compiled model, for this device, these settings and these shapes."""
        ov = _required()
        core = ov.Core()
        model, names, _ = _shaped(core, artifact, settings, shapes)
        (folder / PREPARED).write_bytes(_exported(_compile(core, model, settings, cache_dir=None)))
        write_stamp(folder, _conditions(ov, artifact, settings, shapes), file=PREPARED, inputs=names)


def _conditions(ov: ModuleType, artifact: Path, settings: BackendSettings, shapes: Mapping[str, tuple[int, ...]] | None) -> dict[str, Any]:
    key = {"device": settings.device, **compile_properties(settings, cache_dir=None)}
    return conditions(artifact, runtime=f"openvino {ov.__version__}", key=key, shapes=shapes)


def _exported(compiled: Any) -> bytes:
    try:
        blob = compiled.export_model()
    except Exception as error:  # the runtime raises plain RuntimeError
        raise SettingRefused(f"This device cannot write its compiled model: {_last_line(error)}") from error
    return bytes(blob.getvalue() if hasattr(blob, "getvalue") else blob)


def _imported(ov: ModuleType, core: Any, start: Found, settings: BackendSettings) -> OpenVinoSession:
    """A session from the compiled model, without reading the model it came from."""
    try:
        blob = start.file.read_bytes() if start.file else b""
        compiled = core.import_model(blob, settings.device, compile_properties(settings, cache_dir=None))
    except Exception as error:  # the runtime raises plain RuntimeError
        raise LoadFailed(f"OpenVINO cannot read its compiled model; build the recipe again: {_last_line(error)}") from error
    inputs = tuple(replace(_tensor(port), name=name) for port, name in zip(compiled.inputs, start.inputs, strict=True))
    facts = {"runtime": f"openvino {ov.__version__}", "cached": False, "start_cache": start.fact}
    return OpenVinoSession(compiled, inputs=inputs, names=start.inputs, facts=facts, streams=settings.streams)


def _shaped(
    core: Any, artifact: Path, settings: BackendSettings, shapes: Mapping[str, tuple[int, ...]] | None
) -> tuple[Any, list[str], tuple[TensorSpec, ...]]:
    """The model bound to its shapes, with the names and the tensors of its inputs."""
    model = _read(core, artifact)
    names = _input_names(model, artifact)
    inputs = tuple(replace(_tensor(port), name=name) for port, name in zip(model.inputs, names, strict=True))
    _refuse_unreadable(inputs, [_tensor(port) for port in model.outputs])
    if settings.batch > 1:
        inputs = tuple(_with_open_batch(one) for one in inputs)
    check_shapes(inputs, shapes or {})
    _bind_shapes(model, dict(zip(names, model.inputs, strict=True)), shapes or {})
    return model, names, inputs


def _openvino() -> ModuleType:
    return importlib.import_module("openvino")


def _required() -> ModuleType:
    try:
        return _openvino()
    except ImportError as error:
        raise BackendMissing(f"openvino cannot be imported ({error}): {INSTALL}.") from error


def _variant(threads: int, precision: Precision) -> SettingsVariant:
    why = "compiled for this host in full precision" if precision is Precision.F32 else f"this host computes {precision} natively"
    return SettingsVariant(
        settings=BackendSettings(threads=threads, precision=precision), accuracy_invariant=precision is Precision.F32, why=why
    )


def _read(core: Any, artifact: Path) -> Any:
    try:
        model = core.read_model(str(artifact))
    except Exception as error:  # the runtime raises plain RuntimeError
        raise _load_error(error) from error
    for port in (*model.inputs, *model.outputs):
        if not port.get_names():
            port.get_tensor().set_names({port.get_node().get_friendly_name()})
    return model


def _refuse_unreadable(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """A type that numpy does not have is given back as another one of its size, with other numbers."""
    for tensor in (*inputs, *outputs):
        if tensor.dtype == "string":
            raise Unsupported(f"{tensor.name!r} holds text, which OpenVINO cannot take: use another backend.")
        if tensor.dtype not in NUMPY_TYPES:
            raise Unsupported(
                f"{tensor.name!r} holds {tensor.dtype}, which OpenVINO cannot exchange with numpy: export the model with float32 inputs and "
                "outputs."
            )


def _with_open_batch(tensor: TensorSpec) -> TensorSpec:
    """A rewritten model may have fixed one example per call; this runtime can still give it more, and the outputs are compared."""
    return replace(tensor, shape=(None, *tensor.shape[1:])) if tensor.shape else tensor


def _bind_shapes(model: Any, ports: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if not shapes:
        return
    try:
        model.reshape({ports[name]: list(shape) for name, shape in shapes.items()})
    except Exception as error:  # the runtime raises plain RuntimeError
        bound = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise InputRefused(f"The model cannot take {bound}: {_last_line(error)}") from error


def _compile(core: Any, model: Any, settings: BackendSettings, *, cache_dir: Path | None) -> Any:
    properties = compile_properties(settings, cache_dir=cache_dir)
    try:
        return core.compile_model(model, settings.device, properties)
    except Exception as error:  # the runtime raises plain RuntimeError
        unknown = next((key for key in settings.extra if key in str(error)), None)
        if unknown:
            raise SettingRefused(f"OpenVINO refuses {unknown}={settings.extra[unknown]!r}: {_last_line(error)}") from error
        raise _load_error(error) from error


def compile_properties(settings: BackendSettings, *, cache_dir: Path | None) -> dict[str, str]:
    """Precision is always stated: left to itself the runtime converts down wherever the host has the units for it."""
    stated = next((key for key in settings.extra if key in OWN_SETTINGS), None)
    if stated:
        raise SettingRefused(f"State {stated} by the recipe's own {OWN_SETTINGS[stated]}, not among the extra settings.")
    chosen = {
        "PERFORMANCE_HINT": "LATENCY" if settings.streams == 1 else "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": str(settings.precision),
    }
    if settings.device == "CPU":
        chosen["INFERENCE_NUM_THREADS"] = str(settings.threads or quota_threads())
        chosen["NUM_STREAMS"] = str(settings.streams)
        if settings.precision is Precision.F32:
            chosen |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "KV_CACHE_PRECISION": "f32"}
    if cache_dir is not None:
        chosen["CACHE_DIR"] = str(cache_dir)
    return {**chosen, **settings.extra}


def _runtime_facts(compiled: Any) -> dict[str, Any]:
    """What the compiler says it really does, read from its properties and its runtime graph."""
    facts = {
        key.lower(): _property(compiled, key)
        for key in ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "EXECUTION_MODE_HINT", "EXECUTION_DEVICES")
    }
    precisions_run = Counter(node.get_rt_info()["runtimePrecision"].astype(str) for node in _executed_ops(compiled))
    return {**facts, "precision": _precision_name(compiled), "runtime_precisions": dict(precisions_run.most_common())}


def _executed_ops(compiled: Any) -> list[Any]:
    """Nodes of the runtime's graph that compute something."""
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        is_executed = node.get_type_name() == "ExecutionNode" and "runtimePrecision" in info and "layerType" in info
        if is_executed and info["layerType"].astype(str) != "Const":
            found.append(node)
    return found


def _executed(node: Any, times_us: Mapping[str, float]) -> ExecutedNode:
    info = node.get_rt_info()
    layers = info["originalLayersNames"].astype(str) if "originalLayersNames" in info else ""
    return ExecutedNode(
        name=node.get_friendly_name(),
        kind=info["layerType"].astype(str),
        precision=info["runtimePrecision"].astype(str),
        layers=tuple(layer for layer in layers.split(",") if layer),
        time_us=times_us.get(node.get_friendly_name()),
    )


def _property(compiled: Any, key: str) -> Any:
    try:
        value = compiled.get_property(key)
    except RuntimeError:
        return None
    return value if isinstance(value, int | str | list) else str(value)


def _precision_name(compiled: Any) -> str:
    try:
        return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    except RuntimeError:
        return "unknown"


def _load_error(error: Exception) -> Unsupported | LoadFailed:
    text = str(error)
    for pattern in REFUSED_OPS:
        found = pattern.search(text)
        if found:
            node = f" (node {found['node']!r})" if found.groupdict().get("node") else ""
            return Unsupported(
                f"OpenVINO does not support the operator {found['op'].strip()}{node}: use another backend or export the model without it."
            )
    return LoadFailed(f"OpenVINO cannot load the model: {_last_line(error)}")


def _run_error(error: Exception, *, inputs: Sequence[TensorSpec], feeds: Feeds) -> InputRefused | RunFailed:
    mismatch = explain_feeds(inputs, feeds)
    return InputRefused(mismatch) if mismatch else RunFailed(f"OpenVINO failed while running the model: {_last_line(error)}")


def _last_line(error: Exception) -> str:
    """The runtime prefixes its messages with the places in its source; the reason stands last."""
    lines = [
        line.strip()
        for line in str(error).splitlines()
        if line.strip() and not re.match(r"^(Exception from|Check '.*' failed at) ", line.strip())
    ]
    text = " ".join(lines[-3:]) or type(error).__name__
    return text if len(text) <= 400 else text[:397] + "..."


def _input_names(model: Any, artifact: Path) -> list[str]:
    """The runtime renames an ONNX input that is passed straight on after the output it becomes; its own name is in the file."""
    names = [port.get_any_name() for port in model.inputs]
    if artifact.suffix != ".onnx" or not {port.get_any_name() for port in model.outputs}.intersection(names):
        return names
    with mapped(artifact) as view:
        main = walk(view).main
    stored = {tensor.name for tensor in main.initializers}
    declared = [port.name for port in main.inputs if port.name not in stored]
    return declared if len(declared) == len(names) else names


def _tensor(port: Any) -> TensorSpec:
    dims = tuple(dim.get_length() if dim.is_static else None for dim in port.get_partial_shape())
    dtype = port.get_element_type().get_type_name()
    return TensorSpec(name=port.get_any_name(), dtype=NUMPY_NAMES.get(dtype, dtype), shape=dims)
