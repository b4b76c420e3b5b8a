"""Work on this machine without a platform: a sandbox, an ingested model, its inputs and the host's profile in one work folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from optimizer.cli_targets import parse_binding
from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import EngineError, EngineFault, InputError, Side
from optimizer.formats import inspect_model, prepare
from optimizer.formats.prepare import is_declared_folder
from optimizer.hardware import probe
from optimizer.measure.inputs import InputSet, load_inputs
from optimizer.pipeline.subject import never
from optimizer.sandbox import ChildJob, Level, Limits, Sandbox
from optimizer.sandbox.job import ChildOutcome
from optimizer.specs import HardwareProfile, ModelCard, SearchSpec

INGEST = "optimizer.formats.child:ingest_model"
PREPARE_INPUTS = "optimizer.measure.inputs_child:prepare"
BESIDE = frozenset({"onnx.external_missing", "openvino.weights_missing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A model ready for loaders: ``entry`` is relative to ``folder``."""

    folder: Path
    entry: str
    card: ModelCard


@dataclass(slots=True, kw_only=True)
class Workbench:
    """Owns the work folder and the sandbox; use as a context manager."""

    folder: Path
    level: Level | None = None
    cancelled: Callable[[], bool] = never
    sandbox: Sandbox = field(init=False)

    def __enter__(self) -> Self:
        self.sandbox = Sandbox(root=self.folder / "children", level=self.level)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.sandbox.close()
        shutil.rmtree(self.folder / "children", ignore_errors=True)

    def open_model(self, upload: Path, *, bindings: tuple[str, ...] = (), name: str = "model") -> Opened:
        """Check the file in a child and bind its open dimensions (``NAME=SIZE`` texts). Raises InputError."""
        target = self.folder / name
        card = self._ingest(upload, target)
        chosen = dict(parse_binding(text, card.symbols) for text in bindings)
        entry = target / card.entry
        if chosen:
            card = inspect_model(entry, bindings=chosen, warnings=card.warnings)
        return Opened(folder=target, entry=card.entry, card=card)

    def open_folder(self, folder: Path, *, name: str = "model") -> Opened:
        """Check a folder of any origin with one model and its external data, in a child. Raises InputError."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        outcome = self._run(ChildJob(entry=INGEST, params={"beside": True}, binds={"upload": folder.resolve()}))
        shutil.move(outcome.out_dir / "model", target)
        card = from_jsonable(ModelCard, (outcome.result or {})["card"])
        return Opened(folder=target, entry=card.entry, card=card)

    def inputs(self, opened: Opened, spec: SearchSpec, *, dataset: Path | None = None) -> InputSet:
        """Real inputs from ``dataset``, else a shipped corpus that fits, else synthetic. Raises InputError."""
        job = ChildJob(
            entry=PREPARE_INPUTS,
            params={"card": to_jsonable(opened.card), "spec": to_jsonable(spec)},
            binds={} if dataset is None else {"dataset": dataset.resolve()},
        )
        outcome = self._run(job)
        target = self.folder / "inputs" / "all"
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(outcome.out_dir / "inputs", target)
        return load_inputs(target)

    def hardware(self) -> HardwareProfile:
        """This host, without micro-benchmarks."""
        return probe(benchmark=False)

    def _ingest(self, upload: Path, target: Path) -> ModelCard:
        if not upload.exists():
            raise InputError("input.missing", f"There is no file {str(upload)!r}.")
        shutil.rmtree(target, ignore_errors=True)
        is_folder = upload.is_dir()
        if is_folder and not is_declared_folder(upload):
            return self._beside(upload, target)
        try:
            params = {"beside": True} if is_folder else {"file_name": upload.name}
            outcome = self._run(ChildJob(entry=INGEST, params=params, binds={"upload": upload.resolve()}))
        except InputError as error:
            if error.code not in BESIDE:
                raise
            return self._beside(upload, target)
        shutil.move(outcome.out_dir / "model", target)
        return from_jsonable(ModelCard, (outcome.result or {})["card"])

    def _beside(self, upload: Path, target: Path) -> ModelCard:
        """External data and weights of the user's own machine may lie beside the model; the bounded reader copies just that."""
        prepared = prepare(upload, target, beside=True)
        return inspect_model(prepared.entry, warnings=prepared.warnings)

    def _run(self, job: ChildJob) -> ChildOutcome:
        outcome = self.sandbox.run(replace(job, limits=Limits(wall_s=120.0)), cancelled=self.cancelled)
        if outcome.failure is not None:
            kind: type[EngineError] = InputError if outcome.failure.side is Side.USER else EngineFault
            raise kind(outcome.failure.code, outcome.failure.detail)
        return outcome
