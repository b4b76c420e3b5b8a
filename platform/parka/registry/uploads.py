"""Resumable uploads: reserve, append at the row's offset, check, move into the blob store."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from parka.accounts.models import Team
from parka.core.blobs import BlobStore, file_sha256
from parka.core.errors import ChecksumMismatch, Conflict, Gone, NotFound, RateLimited, Refused, TooLarge
from parka.core.text import clean_line
from parka.registry import spool
from parka.registry.limits import CHUNK_BYTES, EXPIRED_ROW_LIVES, FILE_BYTES, OPEN_UPLOADS, UPLOAD_LIVES
from parka.registry.models import Artifact, ArtifactRole, Upload, UploadState
from parka.registry.owners import Owner, check_may_upload, owned_by, run_key_of, user_of
from parka.registry.selectors import storage_used_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What the sender says of a file before its bytes; ``sha256`` may be empty, ``file_name`` is display text only."""

    role: ArtifactRole
    file_name: str
    size_bytes: int
    sha256: str = ""


def create_upload(owner: Owner, *, role: ArtifactRole, file_name: str, size_bytes: int, sha256: str = "") -> Upload:
    """Open an upload and reserve its bytes.

    Raises Refused ``upload.length``, TooLarge ``upload.too_large`` ``quota.storage``, RateLimited ``quota.uploads``.
    """
    check_may_upload(owner)
    if size_bytes < 1:
        raise Refused("upload.length")
    if size_bytes > FILE_BYTES:
        raise TooLarge("upload.too_large")
    with transaction.atomic():
        team = Team.objects.select_for_update().get(pk=owner.team.pk)
        _check_open_uploads(owner)
        check_storage(team, size_bytes)
        upload = Upload.objects.create(
            team=team,
            user=user_of(owner),
            run_key=run_key_of(owner),
            role=role,
            file_name=clean_line(file_name, limit=255),
            size_bytes=size_bytes,
            sha256=sha256.lower(),
            expires_at=Now() + UPLOAD_LIVES,
        )
        upload.refresh_from_db(fields=["expires_at"])
    return upload


def upload_of(owner: Owner, public_id: str) -> Upload:
    """The owner's upload if it can still be used.

    Raises NotFound ``upload.unknown`` (also for another's), Gone ``upload.expired``.
    """
    upload = _owned(owner).filter(public_id=public_id).first()
    return _usable(upload)


def append(owner: Owner, public_id: str, *, offset: int, piece: IO[bytes], length: int) -> Upload:
    """Write a spooled piece at the row's offset; the last piece completes the upload.

    One short transaction: lock the row, compare, write, fsync, advance. Raises Conflict ``upload.offset``,
    Locked ``upload.locked``, TooLarge ``upload.too_large``, ChecksumMismatch ``upload.checksum``, StorageFull.
    """
    check_may_upload(owner)
    upload_of(owner, public_id)
    with spool.sole_writer(public_id):
        with transaction.atomic():
            upload = _usable(_owned(owner).select_for_update(of=("self",)).filter(public_id=public_id).first())
            if upload.state != UploadState.OPEN or upload.offset_bytes != offset:
                raise Conflict("upload.offset")
            if offset + length > upload.size_bytes:
                raise TooLarge("upload.too_large")
            spool.write_piece(public_id, offset=offset, piece=piece)
            upload.offset_bytes = offset + length
            upload.save(update_fields=["offset_bytes"])
        return _complete(upload) if upload.offset_bytes == upload.size_bytes else upload


def complete(owner: Owner, public_id: str) -> Artifact:
    """The artifact of a fully received upload; finishes one that a crash left between its last byte and its row.

    Raises Conflict ``upload.incomplete``.
    """
    upload = upload_of(owner, public_id)
    if upload.artifact is None:
        if upload.offset_bytes != upload.size_bytes:
            raise Conflict("upload.incomplete")
        with spool.sole_writer(public_id):
            upload = _complete(upload_of(owner, public_id))
    if upload.artifact is None:
        raise NotFound("upload.unknown")
    return upload.artifact


def store_file(owner: Owner, *, announced: Announced, path: Path) -> Upload:
    """A whole file that is already on disk (a plain form) through the same intake."""
    upload = create_upload(
        owner, role=announced.role, file_name=announced.file_name, size_bytes=announced.size_bytes, sha256=announced.sha256
    )
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            upload = append(owner, upload.public_id, offset=upload.offset_bytes, piece=BytesIO(piece), length=len(piece))
    return upload


def abort(owner: Owner, public_id: str) -> None:
    """Give up an open upload and free its bytes. Raises NotFound, Gone, Locked."""
    check_may_upload(owner)
    upload = upload_of(owner, public_id)
    with spool.sole_writer(public_id):
        _end(upload, UploadState.ABORTED)


def purge_expired_uploads() -> int:
    """Free the bytes of uploads past their 24 hours, and forget old rows; returns how many expired. Idempotent."""
    late = Upload.objects.filter(state=UploadState.OPEN, expires_at__lte=Now())
    ended = [_end(upload, UploadState.EXPIRED) for upload in late]
    Upload.objects.exclude(state=UploadState.OPEN).filter(expires_at__lte=Now() - EXPIRED_ROW_LIVES).delete()
    return sum(ended)


def check_storage(team: Team, more_bytes: int) -> None:
    """Raises TooLarge ``quota.storage``; the caller holds the team's row."""
    if storage_used_bytes(team) + more_bytes > team.storage_quota_bytes:
        raise TooLarge("quota.storage")


def _check_open_uploads(owner: Owner) -> None:
    mine = Q(team=owner.team, run_key="") if not run_key_of(owner) else owned_by(owner)
    if Upload.objects.filter(mine, state=UploadState.OPEN, expires_at__gt=Now()).count() >= OPEN_UPLOADS:
        raise RateLimited("quota.uploads", retry_after_s=60)


def _owned(owner: Owner) -> QuerySet[Upload]:
    return Upload.objects.filter(owned_by(owner)).select_related("artifact")


def _usable(upload: Upload | None) -> Upload:
    if upload is None or upload.state == UploadState.ABORTED:
        raise NotFound("upload.unknown")
    if upload.state == UploadState.EXPIRED or (upload.state == UploadState.OPEN and _is_late(upload)):
        raise Gone("upload.expired")
    return upload


def _is_late(upload: Upload) -> bool:
    return Upload.objects.filter(pk=upload.pk, expires_at__lte=Now()).exists()


def _end(upload: Upload, state: UploadState) -> bool:
    ended = Upload.objects.filter(pk=upload.pk, state=UploadState.OPEN).update(state=state)
    if ended:
        spool.discard(upload.public_id)
    return bool(ended)


def _complete(upload: Upload) -> Upload:
    """Check the hash, note it on the row (so that a crash after the rename loses nothing), move, make the artifact."""
    if upload.artifact is not None:
        return upload
    part, store = spool.part_path(upload.public_id), BlobStore()
    if part.is_file():
        sha256 = file_sha256(part)
        if upload.sha256 and upload.sha256 != sha256:
            _end(upload, UploadState.ABORTED)
            raise ChecksumMismatch("upload.checksum")
        Upload.objects.filter(pk=upload.pk).update(sha256=sha256)
        upload.sha256 = sha256
        store.put_file(part, sha256)
    elif not upload.sha256 or not store.exists(upload.sha256):
        _end(upload, UploadState.ABORTED)
        raise NotFound("upload.unknown")
    return _finish(upload)


@transaction.atomic
def _finish(upload: Upload) -> Upload:
    artifact, _ = Artifact.objects.get_or_create(
        team=upload.team,
        sha256=upload.sha256,
        role=upload.role,
        defaults={"size_bytes": upload.size_bytes, "file_name": upload.file_name},
    )
    if artifact.missing:
        artifact.missing = False
        artifact.save(update_fields=["missing"])
    Upload.objects.filter(pk=upload.pk, state=UploadState.OPEN).update(state=UploadState.COMPLETE, artifact=artifact)
    upload.artifact, upload.state = artifact, UploadState.COMPLETE
    spool.discard(upload.public_id)
    return upload
