"""What a recipe means to its runtime, as plain data: the one source of the server, the instructions and the serving configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from optimizer.backends.hints import quota_threads
from optimizer.backends.onnxruntime import GRAPH_LEVEL, threads_per_stream
from optimizer.backends.openvino import compile_properties
from optimizer.backends.providers import CPU, PROVIDERS, provider
from optimizer.specs import BackendSettings, Recipe

ONNXRUNTIME, OPENVINO, PYTORCH, TORCH_COMPILE = "onnxruntime", "openvino", "pytorch", "torch_compile"
ALL_REWRITES = "ORT_ENABLE_ALL"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """Every setting of the session, spelled in the runtime's own words. ``providers`` are ONNX Runtime's, ``properties`` OpenVINO's.

    ``streams`` requests are in flight at once, each of ``batch`` examples; ``threads`` are those of one request. ``start_cache``:
    the model's folder holds what the runtime prepared for starts. ``bucketed``: a session for each shape of the traffic.
    """

    runtime: str
    threads: int = 0
    streams: int = 1
    batch: int = 1
    start_cache: bool = False
    bucketed: bool = False
    graph_level: str = ""
    config: dict[str, str] = field(default_factory=dict)
    providers: tuple[tuple[str, dict[str, str]], ...] = ()
    device: str = ""
    properties: dict[str, str] = field(default_factory=dict)


def session_plan(recipe: Recipe) -> SessionPlan:
    """The plan of a recipe; a thread count left open is the one of this machine. Other runtimes get their name alone."""
    if recipe.backend == ONNXRUNTIME:
        return _onnxruntime(recipe.settings)
    if recipe.backend == OPENVINO:
        stated = compile_properties(recipe.settings, cache_dir=None)
        streams, batch = recipe.settings.streams, recipe.settings.batch
        return SessionPlan(
            runtime=OPENVINO,
            device=recipe.settings.device,
            properties=stated,
            streams=streams,
            batch=batch,
            start_cache=recipe.settings.cached,
            bucketed=recipe.settings.bucketed,
        )
    if recipe.backend in (PYTORCH, TORCH_COMPILE):
        return SessionPlan(runtime=recipe.backend, threads=recipe.settings.threads or quota_threads(), batch=recipe.settings.batch)
    return SessionPlan(runtime=recipe.backend, batch=recipe.settings.batch)


def _onnxruntime(settings: BackendSettings) -> SessionPlan:
    threads = threads_per_stream(settings, total=settings.threads or quota_threads())
    name = settings.provider or next((one for one, entry in PROVIDERS.items() if entry.device == settings.device), CPU)
    first = (name, provider(name).settings(settings.precision, threads=threads, cache_dir=None))
    return SessionPlan(
        runtime=ONNXRUNTIME,
        threads=threads,
        streams=settings.streams,
        batch=settings.batch,
        start_cache=settings.cached,
        graph_level=settings.extra.get(GRAPH_LEVEL, ALL_REWRITES),
        config=_config(settings.spinning, settings.extra),
        providers=(first,) if name == CPU else (first, (CPU, {})),
    )


def _config(spinning: bool | None, extra: Mapping[str, str]) -> dict[str, str]:
    spin = {} if spinning is None else {"session.intra_op.allow_spinning": str(int(spinning))}
    return {**spin, **{key: value for key, value in extra.items() if key != GRAPH_LEVEL}}
