"""The upload zone of a page and what arrives through it: a finished tus upload, or the file of a plain form."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile

from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.http import HttpRequest

from parka.accounts.access import Access
from parka.core.blobs import disk_full_is_refused
from parka.core.errors import Refused, TooLarge
from parka.registry import uploads
from parka.registry.limits import FILE_BYTES, FORM_BYTES
from parka.registry.models import Artifact, ArtifactRole, Upload
from parka.registry.spool import spool_root


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadZone:
    """What the drop zone asks for; ``accepts`` are the kinds that ``pk-upload`` tells by their first bytes."""

    role: ArtifactRole
    ask: str
    hint: str
    accepts: str
    wants: str
    suffixes: str
    limit: int = FILE_BYTES
    headers: str = "{}"
    back: str = ""


MODEL_UPLOAD = UploadZone(
    role=ArtifactRole.MODEL,
    ask="Drop a model here, or choose one",
    hint=(
        "One .onnx file, or a .zip with the .onnx and its external data, with an OpenVINO .xml and its .bin, or with a Hugging Face folder "
        "(config.json, model.safetensors, tokenizer). Up to 8 GiB, resumable."
    ),
    accepts="onnx zip",
    wants="an ONNX file or a zip",
    suffixes=".onnx,.zip",
)
DATASET_UPLOAD = UploadZone(
    role=ArtifactRole.DATASET,
    ask="Drop an .npz file here, or choose one",
    hint="One array per model input, first axis counts the examples. Up to 8 GiB, resumable.",
    accepts="npz zip",
    wants="an .npz file",
    suffixes=".npz",
)


def upload_zone(access: Access, zone: UploadZone, *, back: str) -> UploadZone:
    """The zone for a team; ``back`` is where Cancel leads."""
    return replace(zone, headers=json.dumps({"Parka-Team": access.team.slug}), back=back)


def received_artifact(request: HttpRequest, access: Access, *, role: ArtifactRole) -> Artifact:
    """The artifact behind a form. Raises Refused ``upload.file_missing`` ``upload.incomplete`` ``upload.role``, TooLarge."""
    upload_id = request.POST.get("upload", "")
    upload = uploads.upload_of(access, upload_id) if upload_id else _stored(access, request.FILES.get("file"), role=role)
    if upload.artifact is None:
        raise Refused("upload.incomplete")
    if upload.artifact.role != role:
        raise Refused("upload.role")
    return upload.artifact


def _stored(access: Access, file: object, *, role: ArtifactRole) -> Upload:
    if not isinstance(file, UploadedFile) or not file.size:
        raise Refused("upload.file_missing")
    if file.size > FORM_BYTES:
        raise TooLarge("upload.too_large")
    announced = uploads.Announced(role=role, file_name=file.name or "", size_bytes=file.size)
    if isinstance(file, TemporaryUploadedFile):
        return uploads.store_file(access, announced=announced, path=Path(file.temporary_file_path()))
    with disk_full_is_refused(), NamedTemporaryFile(dir=spool_root(), prefix="form-") as copy:
        for chunk in file.chunks():
            copy.write(chunk)
        copy.flush()
        return uploads.store_file(access, announced=announced, path=Path(copy.name))
