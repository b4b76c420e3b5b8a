"""One zip: the model files, ``recipe.json``, ``measurements.json`` and a README. Equal content gives equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optimizer.codec import to_jsonable
from optimizer.errors import EngineFault
from optimizer.export.loading import loading_notes
from optimizer.pipeline import BuildCache
from optimizer.specs import ArtifactRef, Json, Recipe, Stage, StageReport, StageStatus

BUNDLE_ROLE = "bundle"
EPOCH = (1980, 1, 1, 0, 0, 0)
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """What goes into a bundle. ``shapes`` are the bound input shapes, ``summary`` the numbers that chose this form (JSON)."""

    model_dir: Path
    entry: str
    recipe: Recipe
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    summary: Mapping[str, Json] = field(default_factory=dict)
    runtimes: Mapping[str, str] = field(default_factory=dict)


def write_bundle(content: BundleContent, target: Path) -> ArtifactRef:
    """Write the zip atomically; stored without compression, names sorted, one fixed date: the same content has the same sha256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".zip")
    os.close(handle)
    draft = Path(name)
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
            for member, source in sorted(_members(content), key=lambda pair: pair[0]):
                _add(archive, member, source)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    with target.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ArtifactRef(role=BUNDLE_ROLE, sha256=sha256, size_bytes=target.stat().st_size, path=str(target))


def bundle_trial(
    trial: int,
    *,
    reports: Sequence[StageReport],
    model_dir: Path,
    entry: str,
    workspace: Path,
    target: Path,
    shapes: Mapping[str, Sequence[int]] | None = None,
    summary: Mapping[str, Json] | None = None,
    runtimes: Mapping[str, str] | None = None,
) -> ArtifactRef:
    """Bundle a trial of a finished search from its build in ``workspace/builds``; trial 0 and pass-free recipes are the upload.

    Raises EngineFault ``build.lost`` when the build is no longer in the cache.
    """
    build = _build_report(trial, reports)
    folder, name = model_dir, entry
    if build.recipe.passes:
        found = BuildCache(workspace / "builds").find(str(build.detail.get("build_key", "")))
        if found is None:
            raise EngineFault("build.lost", f"The build of trial {trial} is no longer in the cache; run the search again.")
        folder, name = found.folder, found.entry
    content = BundleContent(
        model_dir=folder, entry=name, recipe=build.recipe, shapes=shapes or {}, summary=summary or {}, runtimes=runtimes or {}
    )
    return write_bundle(content, target)


def _build_report(trial: int, reports: Sequence[StageReport]) -> StageReport:
    for report in reports:
        if report.trial == trial and report.stage is Stage.BUILD and report.status is StageStatus.OK:
            return report
    raise EngineFault("build.lost", f"No successful build of trial {trial} was reported.")


def _members(content: BundleContent) -> Iterator[tuple[str, Path | bytes]]:
    for path in content.model_dir.rglob("*"):
        if path.is_file():
            yield f"model/{path.relative_to(content.model_dir).as_posix()}", path
    recipe = {
        "entry": f"model/{content.entry}",
        "recipe": to_jsonable(content.recipe),
        "shapes": {name: list(shape) for name, shape in content.shapes.items()},
        "runtimes": dict(content.runtimes),
    }
    yield "recipe.json", _json(recipe)
    yield "measurements.json", _json(dict(content.summary))
    yield (
        "README.txt",
        loading_notes(content.recipe, entry=f"model/{content.entry}", shapes=content.shapes, runtimes=content.runtimes).encode(),
    )


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _add(archive: zipfile.ZipFile, member: str, source: Path | bytes) -> None:
    info = zipfile.ZipInfo(member, date_time=EPOCH)
    info.external_attr = 0o644 << 16
    with archive.open(info, "w", force_zip64=True) as sink:
        if isinstance(source, bytes):
            sink.write(source)
            return
        with source.open("rb") as file:
            while chunk := file.read(CHUNK):
                sink.write(chunk)
