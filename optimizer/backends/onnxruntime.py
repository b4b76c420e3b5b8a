"""ONNX Runtime: the CPU provider and every other local provider that the installed build reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
from optimizer.backends.hints import quota_threads, stream_counts, thread_counts
from optimizer.backends.providers import CPU, Provider, provider
from optimizer.backends.start_cache import Found, conditions, find, write_stamp
from optimizer.ort import load_onnxruntime
from optimizer.specs import BackendSettings, HardwareProfile, ModelCard, Precision, TensorSpec

NUMPY_NAMES = {"float": "float32", "double": "float64"}
NUMPY_TYPES = frozenset(
    {"bool", "string", *(f"float{bits}" for bits in (16, 32, 64)), *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
)
"""Element types that this runtime takes from numpy and gives back to it."""
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL")
GRAPH_LEVEL = "graph_optimization_level"
PREPARED = "prepared.onnx"
UNSUPPORTED = (
    re.compile(r"Could not find an implementation for (?P<op>[\w.]+)\((?P<version>\d+)\) node with name '(?P<node>[^']*)'"),
    re.compile(r"(?:Fatal error: |^|\s)(?P<op>[\w.]*:?[\w.]+)\((?P<version>-?\d+)\) is not a registered function/op"),
    re.compile(r"No Op registered for (?P<op>\w+) with domain_version of (?P<version>\d+)"),
    re.compile(r"(?P<op>opset) (?P<version>\d+) is under development"),
)
FAILED_NODE = re.compile(
    r"Non-zero status code returned while running (?P<op>\w+) node\. Name:'(?P<node>[^']*)' Status Message: (?P<why>.*)", re.S
)


class OnnxRuntimeSession:
    """A bound session; ``run`` adds nothing to the runtime's own call. Outputs are owned by the caller.

    ``streams`` are the runtime's sessions, one per request in flight; a one-thread session computes in the caller's thread and
    stands there as often as it may be called at once.
    """

    __slots__ = ("_facts", "_names", "_run", "_streams", "inputs", "outputs")

    def __init__(self, streams: Sequence[Any], *, facts: dict[str, Any]) -> None:
        session = streams[0]
        self.inputs: Sequence[TensorSpec] = tuple(_tensor(node) for node in session.get_inputs())
        self.outputs: Sequence[TensorSpec] = tuple(_tensor(node) for node in session.get_outputs())
        self._names = [tensor.name for tensor in self.outputs]
        self._run = session.run
        self._streams: tuple[Callable[..., Any], ...] = tuple(one.run for one in streams)
        self._facts = facts

    def run(self, feeds: Feeds) -> list[np.ndarray[Any, Any]]:
        try:
            return self._run(self._names, feeds)  # type: ignore[no-any-return]
        except Exception as error:  # the runtime's exceptions share no base class
            raise _run_error(error, inputs=self.inputs, feeds=feeds) from error

    def lanes(self) -> Sequence[Run]:
        return [partial(self._serve, run) for run in self._streams]

    def _serve(self, run: Callable[..., Any], feeds: Feeds) -> list[np.ndarray[Any, Any]]:
        try:
            return run(self._names, feeds)  # type: ignore[no-any-return]
        except Exception as error:  # the runtime's exceptions share no base class
            raise _run_error(error, inputs=self.inputs, feeds=feeds) from error

    def facts(self) -> dict[str, Any]:
        return self._facts

    def close(self) -> None:
        self._run, self._streams = _closed, ()


class OnnxRuntime:
    """Opens ONNX files with ONNX Runtime."""

    name = "onnxruntime"
    formats = frozenset({"onnx"})

    def availability(self) -> Available | Missing:
        try:
            ort = load_onnxruntime()
        except ImportError as error:
            return Missing(reason=f"onnxruntime cannot be imported: {error}", install="pip install onnxruntime")
        return Available(version=ort.__version__, devices=tuple(dict.fromkeys(provider(name).device for name in _local_providers(ort))))

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[SettingsVariant]:
        first, *others = thread_counts(card, hardware)
        chosen = [_cpu(first, why="the runtime's defaults at this thread count")]
        if first > 1:
            chosen.append(_cpu(first, spinning=False, why="idle threads sleep: steadier beside other processes"))
        chosen += [_cpu(threads, why="fewer threads spend less time waiting for each other") for threads in others]
        return tuple(chosen + _other_providers())

    def prepare(self, artifact: Path, settings: BackendSettings, *, shapes: Mapping[str, tuple[int, ...]] | None, folder: Path) -> None:
        """Write the graph as it stands after all of the runtime's rewrites, which then need no second time."""
        ort = _required()
        name, chosen = _provider(ort, settings)
        if name != CPU:
            raise SettingRefused(f"{name} keeps what it compiled in its own form; ask for the CPU, or for no start cache.")
        threads = threads_per_stream(settings, total=settings.threads or quota_threads())
        options = _session_options(ort, settings, threads=threads)
        options.optimized_model_filepath = str(folder / PREPARED)
        _load(ort, artifact, options=options, providers=[(name, chosen.settings(settings.precision, threads=threads, cache_dir=None))])
        write_stamp(folder, _conditions(ort, artifact, settings, name), file=PREPARED)

    def stream_counts(self, hardware: HardwareProfile) -> Sequence[int]:
        return stream_counts(hardware)

    def open(
        self,
        artifact: Path,
        settings: BackendSettings,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        cache_dir: Path | None = None,
    ) -> OnnxRuntimeSession:
        ort = _required()
        name, chosen = _provider(ort, settings)
        total = settings.threads or quota_threads()
        threads = threads_per_stream(settings, total=total)
        options = _session_options(ort, settings, threads=threads)
        provider_options = chosen.settings(settings.precision, threads=threads, cache_dir=cache_dir)
        providers = [(name, provider_options), *([(CPU, {})] if name != CPU else [])]
        start = find(artifact, _conditions(ort, artifact, settings, name)) if settings.cached else Found()
        if start.file:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        source = start.file or artifact
        session = _load(ort, source, options=options, providers=providers)
        if name not in session.get_providers():
            raise LoadFailed(
                f"ONNX Runtime fell back from {name} to {session.get_providers()[0]}: check that provider's driver and libraries."
            )
        others = settings.streams - 1
        streams = (
            [session] * (1 + others)
            if threads == 1
            else [session, *(_load(ort, source, options=options, providers=providers) for _ in range(others))]
        )
        facts = {
            "runtime": f"onnxruntime {ort.__version__}",
            "providers": session.get_providers(),
            "threads": total,
            "streams": settings.streams,
            "spinning": settings.spinning is not False,
            "graph_optimization_level": settings.extra.get(GRAPH_LEVEL, "ORT_ENABLE_ALL"),
            "precision": str(settings.precision),
        }
        if settings.cached:
            facts["start_cache"] = start.fact
        opened = OnnxRuntimeSession(streams, facts=facts)
        _refuse_non_tensors(opened)
        check_shapes(opened.inputs, shapes or {})
        return opened


def _conditions(ort: ModuleType, artifact: Path, settings: BackendSettings, provider_name: str) -> dict[str, Any]:
    """What the rewritten graph depends on; its dims stay as open as the model's."""
    key = {"graph_level": settings.extra.get(GRAPH_LEVEL, LEVELS[-1]), "provider": provider_name}
    return conditions(artifact, runtime=f"onnxruntime {ort.__version__}", key=key, shapes=None)


def _required() -> ModuleType:
    try:
        return load_onnxruntime()
    except ImportError as error:
        raise BackendMissing(f"onnxruntime cannot be imported ({error}): pip install onnxruntime.") from error


def _local_providers(ort: ModuleType) -> list[str]:
    """Providers that compute on this machine, the CPU first; a remote one would send the inputs away."""
    names = [name for name in ort.get_available_providers() if not provider(name).remote]
    return sorted(names, key=lambda name: name != CPU)


def _other_providers() -> list[SettingsVariant]:
    names = [name for name in _local_providers(_required()) if name != CPU]
    return [
        SettingsVariant(
            settings=BackendSettings(provider=name, device=provider(name).device, precision=precision),
            accuracy_invariant=precision is Precision.F32,
            why=f"the installed ONNX Runtime offers {name}",
        )
        for name in names
        for precision in provider(name).options
    ]


def _cpu(threads: int, *, why: str, spinning: bool | None = None) -> SettingsVariant:
    return SettingsVariant(settings=BackendSettings(threads=threads, spinning=spinning), accuracy_invariant=True, why=why)


def _provider(ort: ModuleType, settings: BackendSettings) -> tuple[str, Provider]:
    local = _local_providers(ort)
    name = settings.provider or next((name for name in local if provider(name).device == settings.device), "")
    if name not in local:
        raise SettingRefused(f"This ONNX Runtime cannot use {name or settings.device}; it offers {', '.join(local)}.")
    if settings.precision not in provider(name).options:
        raise SettingRefused(
            f"{name} computes in the model's own precision: ask for f32, or use a backend that takes the {settings.precision} hint."
        )
    if settings.streams != 1 and name != CPU:
        raise SettingRefused(f"{name} is opened with one stream here; ask for one, or for the CPU.")
    return name, provider(name)


def threads_per_stream(settings: BackendSettings, *, total: int) -> int:
    """Threads of each request in flight, of ``total`` for all. Raises SettingRefused when there are fewer threads than streams."""
    if settings.streams > total:
        raise SettingRefused(f"{settings.streams} streams need as many threads; only {total} may be used.")
    return total // settings.streams


def _session_options(ort: ModuleType, settings: BackendSettings, *, threads: int) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if settings.spinning is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
    for key, value in settings.extra.items():
        if key == GRAPH_LEVEL and value in LEVELS:
            options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, value)
        elif key.startswith(("session.", "optimization.", "mlas.", "ep.")):
            options.add_session_config_entry(key, value)
        else:
            raise SettingRefused(
                f"ONNX Runtime has no setting {key}={value!r}: use {GRAPH_LEVEL} ({', '.join(LEVELS)}) or a session config key."
            )
    return options


def _load(ort: ModuleType, artifact: Path, *, options: Any, providers: list[Any]) -> Any:
    try:
        return ort.InferenceSession(str(artifact), options, providers=providers)
    except Exception as error:  # the runtime's exceptions share no base class
        raise _load_error(error) from error


def _load_error(error: Exception) -> Unsupported | LoadFailed:
    text = _first_line(error)
    for pattern in UNSUPPORTED:
        found = pattern.search(text)
        if found:
            version = "" if found["version"] == "-1" else f" of version {found['version']}"
            node = f" (node {found['node']!r})" if found.groupdict().get("node") else ""
            return Unsupported(
                f"ONNX Runtime has no kernel for {found['op']}{version}{node}: export the model with another opset or without it."
            )
    if type(error).__name__ == "NotImplemented":
        return Unsupported(f"ONNX Runtime does not support a part of the model: {text}")
    return LoadFailed(f"ONNX Runtime cannot load the model: {text}")


def _run_error(error: Exception, *, inputs: Sequence[TensorSpec], feeds: Feeds) -> InputRefused | RunFailed:
    mismatch = explain_feeds(inputs, feeds)
    if mismatch:
        return InputRefused(mismatch)
    found = FAILED_NODE.search(str(error))
    if found:
        return RunFailed(
            f"{found['op']} node {found['node']!r} failed: {_shorten(found['why'])} Check the input values and the bound shapes."
        )
    return RunFailed(f"ONNX Runtime failed while running the model: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return _shorten(re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)))


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 400 else line[:397] + "..."


def _tensor(node: Any) -> TensorSpec:
    found = re.fullmatch(r"tensor\((\w+)\)", node.type)
    name = found[1] if found else node.type
    shape = tuple(dim if isinstance(dim, int) else (dim or None) for dim in node.shape or ())
    return TensorSpec(name=node.name, dtype=NUMPY_NAMES.get(name, name), shape=shape)


def _refuse_non_tensors(session: OnnxRuntimeSession) -> None:
    for tensor in (*session.inputs, *session.outputs):
        if "(" in tensor.dtype:
            raise Unsupported(f"{tensor.name!r} is a {tensor.dtype}; only plain tensors can be fed and read.")
        if tensor.dtype not in NUMPY_TYPES:
            raise Unsupported(
                f"{tensor.name!r} holds {tensor.dtype}, which ONNX Runtime cannot exchange with numpy: export the model with float32 inputs "
                "and outputs."
            )


def _closed(*_args: object) -> list[np.ndarray[Any, Any]]:
    raise RunFailed("The session is closed.")
