"""Bytes on their way in: one growing file per upload under ``SPOOL_ROOT``, written by one request at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.conf import settings

from parka.core.blobs import disk_full_is_refused
from parka.core.errors import Locked
from parka.registry.limits import COPY_BYTES


def part_path(public_id: str) -> Path:
    """Where the bytes received so far lie."""
    return spool_root() / f"{public_id}.part"


def spool_root() -> Path:
    root = Path(settings.SPOOL_ROOT)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


@contextmanager
def sole_writer(public_id: str) -> Iterator[None]:
    """Keep other requests off this upload. Raises Locked ``upload.locked`` when one is already writing."""
    with disk_full_is_refused(), (spool_root() / f"{public_id}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked("upload.locked", retry_after_s=1) from None
        yield


def write_piece(public_id: str, *, offset: int, piece: IO[bytes]) -> None:
    """Make the part exactly ``offset`` bytes plus the piece, durably. Raises StorageFull ``storage.full``."""
    with disk_full_is_refused():
        descriptor = os.open(part_path(public_id), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(descriptor, offset)
            os.lseek(descriptor, offset, os.SEEK_SET)
            while chunk := piece.read(COPY_BYTES):
                _write_all(descriptor, chunk)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def discard(public_id: str) -> None:
    """Free the disk space of an upload."""
    part_path(public_id).unlink(missing_ok=True)
    (spool_root() / f"{public_id}.lock").unlink(missing_ok=True)


def _write_all(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
