"""PyTorch: Hugging Face folders, as they come (eager) or compiled by inductor, in float32 or with bf16 autocast."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from optimizer.backends.base import Available, Feeds, Missing, SettingsVariant
from optimizer.backends.errors import BackendMissing, InputRefused, LoadFailed, RunFailed, SettingRefused, check_shapes, explain_feeds
from optimizer.backends.hints import precisions, quota_threads, thread_counts
from optimizer.specs import BackendSettings, HardwareProfile, ModelCard, Precision, TensorSpec

COMPUTED = (Precision.F32, Precision.BF16)
COMPILER = "g++"
INSTALL = "pip install 'parka[torch]'"
CHILD_PATH = "/usr/bin:/bin"
"""Where a sandboxed child looks for programs."""


def _models() -> ModuleType:
    """Our loader of networks; imported late, for a timed start of another backend needs nothing of it."""
    return importlib.import_module("optimizer.torch_models")


class TorchSession:
    """One module. Feeds are read in place; outputs are float32 arrays of their own."""

    __slots__ = ("_facts", "_module", "_names", "_outputs", "_precision", "_torch", "inputs", "outputs")

    def __init__(
        self,
        torch: ModuleType,
        module: Any,
        *,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        precision: Precision,
        facts: dict[str, Any],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._torch = torch
        self._module = module
        self._names = tuple(tensor.name for tensor in inputs)
        self._outputs = tuple(tensor.name for tensor in outputs)
        self._precision = precision
        self._facts = facts

    def run(self, feeds: Feeds) -> list[np.ndarray[Any, Any]]:
        torch = self._torch
        try:
            tensors = {name: torch.from_numpy(feeds[name]) for name in self._names}
            with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._precision is Precision.BF16):
                answer = self._module(**tensors)
            return [answer[name].to(torch.float32).numpy() for name in self._outputs]
        except Exception as error:  # the library's exceptions share no base class
            raise _run_error(error, inputs=self.inputs, feeds=feeds) from error

    def facts(self) -> dict[str, Any]:
        return self._facts

    def close(self) -> None:
        self._module = None


class PyTorch:
    """Opens Hugging Face folders in eager mode: what their author ran."""

    name = "pytorch"
    formats = frozenset({"huggingface"})
    compiles = False

    def availability(self) -> Available | Missing:
        try:
            torch = _models().load_torch()
        except ImportError as error:
            return Missing(reason=f"PyTorch or transformers cannot be imported: {error}", install=INSTALL)
        return Available(version=torch.__version__)

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[SettingsVariant]:
        first, *others = thread_counts(card, hardware)
        ranked = [precision for precision in precisions(hardware) if precision in COMPUTED]
        chosen = [_variant(first, precision, compiles=self.compiles) for precision in ranked]
        if not self.compiles:
            chosen += [_variant(threads, Precision.F32, compiles=False) for threads in others]
        return tuple(chosen)

    def open(
        self,
        artifact: Path,
        settings: BackendSettings,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        cache_dir: Path | None = None,
    ) -> TorchSession:
        _check(self.name, settings)
        torch = self._required(cache_dir)
        threads = settings.threads or quota_threads()
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")
        if not artifact.is_file():
            raise LoadFailed(f"There is no {artifact.name} in the model's folder; upload the model again.")
        encoder, module = _models().load_encoder(artifact)
        check_shapes(encoder.inputs, shapes or {})
        facts = {
            "runtime": f"{self.name} {torch.__version__}",
            "threads": torch.get_num_threads(),
            "precision": str(settings.precision),
            "attention": module.config._attn_implementation,
            "compiled": self.compiles,
        }
        session = TorchSession(
            torch, self._prepared(torch, module), inputs=encoder.inputs, outputs=encoder.outputs, precision=settings.precision, facts=facts
        )
        if self.compiles and shapes:
            _compile_now(session, shapes)
        return session

    def _required(self, cache_dir: Path | None) -> ModuleType:
        found = self.availability()
        if isinstance(found, Missing):
            raise BackendMissing(f"{found.reason}. To use {self.name}: {found.install}.")
        torch: ModuleType = _models().load_torch()
        return torch

    def _prepared(self, torch: ModuleType, module: Any) -> Any:
        return module


class TorchCompile(PyTorch):
    """The same module compiled by inductor for the bound shapes; needs a C++ compiler, and compiles at every start without a cache."""

    name = "torch_compile"
    compiles = True

    def availability(self) -> Available | Missing:
        if shutil.which(COMPILER, path=CHILD_PATH) is None:
            return Missing(reason=f"torch.compile needs the C++ compiler {COMPILER}.", install=f"apt-get install {COMPILER}")
        return super().availability()

    def _required(self, cache_dir: Path | None) -> ModuleType:
        """One process compiles, into a folder that is known: a sandbox has no home and bounds its processes."""
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_dir or tempfile.mkdtemp(prefix="inductor-"))
        return super()._required(cache_dir)

    def _prepared(self, torch: ModuleType, module: Any) -> Any:
        return torch.compile(module, dynamic=False)


def _variant(threads: int, precision: Precision, *, compiles: bool) -> SettingsVariant:
    how = "compiled for this host" if compiles else "as its author ran it"
    why = f"{how} in full precision" if precision is Precision.F32 else f"{how}, matrix products in {precision}"
    return SettingsVariant(
        settings=BackendSettings(threads=threads, precision=precision), accuracy_invariant=precision is Precision.F32, why=why
    )


def _check(name: str, settings: BackendSettings) -> None:
    """Raises ``backend.setting_refused`` for what PyTorch on a CPU cannot honour."""
    if settings.device != "CPU" or settings.provider:
        raise SettingRefused(f"{name} serves the CPU only, not {settings.provider or settings.device}; leave provider and device out.")
    if settings.precision not in COMPUTED:
        raise SettingRefused(f"{name} computes in f32 or with bf16 autocast, not in {settings.precision}.")
    if settings.streams != 1 or settings.spinning is not None:
        raise SettingRefused(f"{name} serves one stream and has no spinning setting; leave both at their defaults.")
    if settings.extra:
        raise SettingRefused(f"{name} has no setting {next(iter(settings.extra))!r}; leave the extra settings out.")


def _compile_now(session: TorchSession, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compiling belongs to loading, and a model that cannot be compiled fails here."""
    try:
        with _models().calm():
            session.run({tensor.name: np.ones(shapes[tensor.name], tensor.dtype) for tensor in session.inputs})
    except (RunFailed, InputRefused) as error:
        raise LoadFailed(f"torch.compile cannot compile the model: {error.message}") from error


def _run_error(error: Exception, *, inputs: Sequence[TensorSpec], feeds: Feeds) -> InputRefused | RunFailed:
    mismatch = explain_feeds(inputs, feeds)
    if mismatch:
        return InputRefused(mismatch)
    text = " ".join(str(error).split()) or type(error).__name__
    return RunFailed(f"PyTorch failed while running the model: {text if len(text) <= 400 else text[:397] + '...'}")
