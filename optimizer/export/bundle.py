"""One zip that can be run, served and replayed elsewhere. Equal content gives equal bytes.

``model/`` the files, ``recipe.json`` passes and session settings, ``samples/`` inputs and the artifact's own outputs,
``measurements.json`` what was measured where, ``requirements.txt`` the exact packages, ``serve.py`` and ``Dockerfile``, the
configurations of other servers, ``olive.json``, ``manifest.json`` size and sha256 of every file, ``README.txt``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optimizer.codec import to_jsonable
from optimizer.export import serve
from optimizer.export.contents import DESCRIPTION, MANIFEST, RECORD, REQUIREMENTS, SAMPLES, Described, FileEntry, Recorded
from optimizer.export.loading import Included, loading_notes
from optimizer.export.olive import olive_config
from optimizer.export.packages import required_packages
from optimizer.export.plan import ONNXRUNTIME, OPENVINO, session_plan
from optimizer.export.samples import Samples
from optimizer.export.serving import MODEL_NAME, dockerfile, ovms_config, repository_script, triton_config
from optimizer.measure.traffic import Bucket, open_shapes
from optimizer.specs import ArtifactRef, Json, Recipe

BUNDLE_ROLE = "bundle"
EPOCH = (1980, 1, 1, 0, 0, 0)
CHUNK = 1 << 20
Member = tuple[str, Path | bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """What goes into a bundle. ``shapes`` are the bound input shapes, ``summary`` the numbers that chose this form (JSON).

    ``traffic`` are the shapes of the experiment where there were several.
    """

    model_dir: Path
    entry: str
    recipe: Recipe
    samples: Samples
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    traffic: tuple[Bucket, ...] = ()
    summary: Mapping[str, Json] = field(default_factory=dict)
    runtimes: Mapping[str, str] = field(default_factory=dict)
    recorded: Recorded = field(default_factory=Recorded)


def write_bundle(content: BundleContent, target: Path) -> ArtifactRef:
    """Write the zip atomically; stored without compression, names sorted, one fixed date: the same content has the same sha256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".zip")
    os.close(handle)
    draft = Path(name)
    try:
        members = list(_members(content))
        members.append((MANIFEST, _json({member: to_jsonable(_entry(source)) for member, source in members})))
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
            for member, source in sorted(members, key=lambda pair: pair[0]):
                _add(archive, member, source)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    with target.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ArtifactRef(role=BUNDLE_ROLE, sha256=sha256, size_bytes=target.stat().st_size, path=str(target))


def _members(content: BundleContent) -> Iterator[Member]:
    for path in content.model_dir.rglob("*"):
        if path.is_file():
            yield f"model/{path.relative_to(content.model_dir).as_posix()}", path
    for name in ("inputs.npz", "outputs.npz"):
        yield f"{SAMPLES}/{name}", content.samples.folder / name
    described = Described(
        entry=f"model/{content.entry}",
        recipe=content.recipe,
        session=session_plan(content.recipe),
        shapes=open_shapes(content.traffic) if content.traffic else {name: tuple(shape) for name, shape in content.shapes.items()},
        traffic=content.traffic,
        runtimes=dict(content.runtimes),
        inputs=content.samples.inputs,
        outputs=content.samples.outputs,
        samples=content.samples.n,
    )
    packages = required_packages(content.recipe.backend)
    yield DESCRIPTION, _json(to_jsonable(described))
    yield RECORD, _json({**content.summary, **to_jsonable(content.recorded)})
    yield REQUIREMENTS, "".join(f"{line}\n" for line in packages).encode()
    extras = dict(_extras(content, described))
    yield from extras.items()
    yield "README.txt", loading_notes(described, included=_included(content, extras), packages=packages).encode()


def _extras(content: BundleContent, described: Described) -> Iterator[tuple[str, bytes]]:
    """What depends on the runtime and the passes."""
    if described.session.runtime in (ONNXRUNTIME, OPENVINO):
        yield "serve.py", Path(serve.__file__).read_bytes()
        yield "Dockerfile", dockerfile(python=".".join(platform.python_version_tuple()[:2])).encode()
    file_name = content.entry
    triton = triton_config(described.session, file_name=file_name, inputs=described.inputs, outputs=described.outputs)
    if triton is not None:
        yield f"triton/{MODEL_NAME}/config.pbtxt", triton.encode()
        yield "triton/make.sh", repository_script().encode()
    ovms = ovms_config(described.session, shapes=described.shapes)
    if ovms is not None:
        yield "ovms/config.json", _json(ovms)
        yield "ovms/make.sh", repository_script().encode()
    olive = olive_config(content.recipe, shapes=described.shapes, inputs=described.inputs)
    if olive.config is not None:
        yield "olive.json", _json(olive.config, in_order=True)


def _included(content: BundleContent, extras: Mapping[str, bytes]) -> Included:
    olive = olive_config(content.recipe, shapes=content.shapes, inputs=content.samples.inputs)
    return Included(
        server="serve.py" in extras, triton="triton/make.sh" in extras, ovms="ovms/make.sh" in extras, olive_missing=olive.reason
    )


def _entry(source: Path | bytes) -> FileEntry:
    if isinstance(source, bytes):
        return FileEntry(sha256=hashlib.sha256(source).hexdigest(), size_bytes=len(source))
    with source.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size_bytes=source.stat().st_size)


def _json(value: object, *, in_order: bool = False) -> bytes:
    """Keys sorted, but for readers that take their order for a sequence, as Olive does with passes."""
    return (json.dumps(value, indent=2, sort_keys=not in_order, ensure_ascii=False, allow_nan=False) + "\n").encode()


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
