"""The tus 1.0 protocol over ``registry.uploads``: creation, HEAD, PATCH, checksum, termination, expiration.

The functions take the owner of the bytes, so that people and agents share them; they are synchronous and touch the database.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from django.http import HttpRequest, HttpResponse
from django.utils.http import http_date

from parka.core.blobs import SHA256, disk_full_is_refused
from parka.core.errors import BadRequest, ChecksumMismatch, PreconditionFailed, Refused, TooLarge, UnsupportedMedia
from parka.registry import uploads
from parka.registry.limits import CHUNK_BYTES, COPY_BYTES, FILE_BYTES
from parka.registry.models import ArtifactRole, Upload, UploadState
from parka.registry.owners import Owner
from parka.registry.spool import spool_root

VERSION = "1.0.0"
EXTENSIONS = "creation,checksum,termination,expiration"
PIECE_TYPE = "application/offset+octet-stream"
MEMORY_BYTES = 1 << 20
METADATA_BYTES = 8 << 10


def options() -> HttpResponse:
    """What this server can do."""
    headers = {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(FILE_BYTES),
        "Tus-Checksum-Algorithm": "sha256",
    }
    return HttpResponse(status=204, headers=headers)


def create(request: HttpRequest, owner: Owner, *, location: str, roles: frozenset[ArtifactRole]) -> HttpResponse:
    """``POST``: reserve an upload; ``location`` has ``{id}`` for its id.

    Metadata: ``filename``, ``role`` (one of ``roles``), optionally ``sha256`` of the whole file.
    """
    check_version(request)
    metadata = read_metadata(request.headers.get("Upload-Metadata", ""))
    upload = uploads.create_upload(
        owner,
        role=read_role(metadata.get("role", ""), roles),
        file_name=metadata.get("filename", ""),
        size_bytes=read_length(request.headers.get("Upload-Length", "")),
        sha256=read_sha256(metadata.get("sha256", "")),
    )
    return HttpResponse(status=201, headers={**state_headers(upload), "Location": location.format(id=upload.public_id)})


def head(request: HttpRequest, owner: Owner, public_id: str) -> HttpResponse:
    """``HEAD``: how far the upload has come."""
    check_version(request)
    upload = uploads.upload_of(owner, public_id)
    return HttpResponse(status=200, headers={**state_headers(upload), "Cache-Control": "no-store"})


def patch(request: HttpRequest, owner: Owner, public_id: str) -> HttpResponse:
    """``PATCH``: spool the piece, check its sum, append it."""
    check_version(request)
    if request.headers.get("Content-Type", "").split(";")[0].strip() != PIECE_TYPE:
        raise UnsupportedMedia("request.media_type", f"Send the piece as {PIECE_TYPE}.")
    offset = read_offset(request.headers.get("Upload-Offset", ""))
    expected = read_checksum(request.headers.get("Upload-Checksum", ""))
    with spooled(request) as (piece, length, digest):
        if expected is not None and not hmac.compare_digest(expected, digest):
            raise ChecksumMismatch("upload.checksum")
        upload = uploads.append(owner, public_id, offset=offset, piece=piece, length=length)
    return HttpResponse(status=204, headers=state_headers(upload))


def terminate(request: HttpRequest, owner: Owner, public_id: str) -> HttpResponse:
    """``DELETE``: give the upload up."""
    check_version(request)
    uploads.abort(owner, public_id)
    return HttpResponse(status=204, headers={"Tus-Resumable": VERSION})


def state_headers(upload: Upload) -> dict[str, str]:
    """Offset, length and expiry of an upload; its artifact once complete."""
    headers = {"Tus-Resumable": VERSION, "Upload-Offset": str(upload.offset_bytes), "Upload-Length": str(upload.size_bytes)}
    if upload.state == UploadState.OPEN:
        headers["Upload-Expires"] = http_date(upload.expires_at.timestamp())
    if upload.artifact is not None:
        headers["Parka-Artifact"] = upload.artifact.public_id
    return headers


@contextmanager
def spooled(request: HttpRequest) -> Iterator[tuple[IO[bytes], int, bytes]]:
    """The raw body on disk or in at most 1 MiB of memory, with its length and sha256; nothing is locked while it streams.

    Raises TooLarge ``upload.chunk_too_large``, StorageFull ``storage.full``.
    """
    digest, length = hashlib.sha256(), 0
    with disk_full_is_refused(), SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=str(spool_root())) as piece:
        while chunk := request.read(COPY_BYTES):
            length += len(chunk)
            if length > CHUNK_BYTES:
                raise TooLarge("upload.chunk_too_large")
            digest.update(chunk)
            piece.write(chunk)
        piece.seek(0)
        yield cast("IO[bytes]", piece), length, digest.digest()


def check_version(request: HttpRequest) -> None:
    """Raises PreconditionFailed ``upload.protocol``."""
    if request.headers.get("Tus-Resumable") != VERSION:
        raise PreconditionFailed("upload.protocol")


def read_metadata(header: str) -> dict[str, str]:
    """``Upload-Metadata``: comma-separated key and base64 value. Raises BadRequest ``upload.metadata``."""
    if len(header) > METADATA_BYTES:
        raise BadRequest("upload.metadata")
    metadata: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, value = pair.partition(" ")
        try:
            metadata[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise BadRequest("upload.metadata") from None
    return metadata


def read_role(text: str, roles: frozenset[ArtifactRole]) -> ArtifactRole:
    """Raises Refused ``upload.role`` for a role the sender may not write."""
    for role in roles:
        if role.value == text:
            return role
    raise Refused("upload.role", f"Name the role in Upload-Metadata: one of {', '.join(sorted(role.value for role in roles))}.")


def read_length(header: str) -> int:
    """Raises BadRequest ``upload.length``."""
    if not header.isdecimal() or len(header) > 19:
        raise BadRequest("upload.length")
    return int(header)


def read_offset(header: str) -> int:
    """Raises BadRequest ``upload.offset``."""
    if not header.isdecimal() or len(header) > 19:
        raise BadRequest("upload.offset", "Upload-Offset must be a whole number of bytes.")
    return int(header)


def read_checksum(header: str) -> bytes | None:
    """Digest in ``Upload-Checksum: sha256 <base64>``. Raises BadRequest ``upload.checksum_algorithm``."""
    if not header:
        return None
    algorithm, _, value = header.partition(" ")
    if algorithm.lower() != "sha256":
        raise BadRequest("upload.checksum_algorithm")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise BadRequest("upload.checksum_algorithm") from None


def read_sha256(text: str) -> str:
    """Raises BadRequest ``upload.metadata`` for what is not a hex sha256."""
    lowered = text.lower()
    if lowered and not SHA256.fullmatch(lowered):
        raise BadRequest("upload.metadata", "sha256 in Upload-Metadata must be 64 hex digits.")
    return lowered
