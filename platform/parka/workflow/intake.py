"""From upload to READY or REJECTED: a sandboxed child reads the bytes, the server stores its card or its refusal.

The process that runs this holds a database connection and therefore never parses a byte of the file itself.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
from django.db import transaction

from optimizer.errors import EngineError
from optimizer.sandbox import ChildFailure, ChildJob, ChildOutcome, Level, Limits, Sandbox, best_level
from optimizer.units import GIB, MIB
from parka import env
from parka.accounts.access import Access
from parka.core.blobs import BlobStore
from parka.core.errors import NotFound, Unavailable
from parka.core.text import clean_json
from parka.registry import services
from parka.registry.models import Artifact, Dataset, Model, ModelVersion
from parka.registry.spool import spool_root
from parka.workflow.queue import ServerTask, enqueue

log = structlog.get_logger(__name__)
LIMITS = Limits(wall_s=60.0, cpu_s=60, memory_bytes=2 * GIB, file_bytes=8 * GIB, out_bytes=8 * GIB, processes=64, log_bytes=1 * MIB)
ENTRIES: dict[type, str] = {
    ModelVersion: "optimizer.formats.child:ingest_model",
    Dataset: "optimizer.formats.child:ingest_dataset",
}


@transaction.atomic
def submit_version(access: Access, *, artifact: Artifact, model: Model | None = None, name: str = "") -> ModelVersion:
    """Register an uploaded model and have it inspected."""
    version = services.register_version(access, artifact=artifact, model=model, name=name)
    enqueue(ServerTask.INGEST_VERSION, version.pk)
    return version


@transaction.atomic
def submit_dataset(access: Access, *, artifact: Artifact, name: str = "", metric: str = "") -> Dataset:
    """Register an uploaded dataset and have it inspected."""
    dataset = services.register_dataset(access, artifact=artifact, name=name, metric=metric)
    enqueue(ServerTask.INGEST_DATASET, dataset.pk)
    return dataset


def inspect_version(version_id: int) -> None:
    """Inspect an uploaded model; idempotent."""
    inspect(ModelVersion, version_id)


def inspect_dataset(dataset_id: int) -> None:
    """Inspect an uploaded dataset; idempotent."""
    inspect(Dataset, dataset_id)


def inspect(kind: type[ModelVersion] | type[Dataset], row_id: int) -> None:
    """Run the child on one row's file and settle the row. A stray kill leaves the row waiting for the sweeper."""
    row = kind.objects.select_related("artifact").filter(pk=row_id).first()
    if row is None or not services.start_inspection(row_id, kind=kind):
        return
    with TemporaryDirectory(prefix="intake-", dir=spool_root()) as scratch:
        outcome = run_child(ENTRIES[kind], row.artifact, root=Path(scratch))
    if outcome.failure is not None and outcome.failure.stray:
        log.warning("intake.stray", row=row.public_id, code=outcome.failure.code)
        return
    settle(kind, row_id, outcome)


def run_child(entry: str, artifact: Artifact, *, root: Path) -> ChildOutcome:
    """The child's answer about one artifact; every trouble is an outcome with a code."""
    try:
        blob = BlobStore().path(artifact.sha256)
        if not blob.is_file():
            raise NotFound("artifact.missing")
        sandbox = open_sandbox(root)
    except (NotFound, Unavailable) as error:
        return ChildOutcome(out_dir=root, level=Level.C, failure=ChildFailure(code=error.code, detail=error.message))
    try:
        params = {"bindings": {}, "file_name": artifact.file_name}
        return sandbox.run(ChildJob(entry=entry, params=params, binds={"upload": blob}, limits=LIMITS))
    finally:
        sandbox.close()


def open_sandbox(root: Path) -> Sandbox:
    """A sandbox of at least level B; level C only on the operator's word or on their own machine.

    Raises Unavailable ``intake.sandbox_too_weak``.
    """
    weak_is_fine = env.flag("PARKA_INGEST_ALLOW_C") or env.flag("PARKA_EMBEDDED")
    try:
        return Sandbox(root=root, level=best_level(spool_root()), min_level=Level.C if weak_is_fine else Level.B)
    except EngineError as error:
        log.warning("intake.sandbox_too_weak", reason=error.message)
        raise Unavailable("intake.sandbox_too_weak") from error


def settle(kind: type[ModelVersion] | type[Dataset], row_id: int, outcome: ChildOutcome) -> None:
    """Store the card, or the code and sentence of the refusal."""
    card: Any = (outcome.result or {}).get("card")
    if outcome.failure is not None:
        services.reject(row_id, kind=kind, code=outcome.failure.code, message=outcome.failure.detail)
    elif not isinstance(card, dict):
        services.reject(row_id, kind=kind, code="child.output_invalid", message="")
    else:
        services.accept(row_id, kind=kind, card=clean_json(card))
