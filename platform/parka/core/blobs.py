"""Content-addressed files: written once, mode 0444, named by their sha256, never linked."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from parka.core.errors import NotFound, StorageFull

PIECE = 1 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_full_is_refused() -> Iterator[None]:
    """Turn the operating system's "no space" into StorageFull ``storage.full``."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise StorageFull("storage.full") from error
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file, read in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class BlobStore:
    """Blobs under ``root/ab/cd/<sha256>``. A hash grants nothing: access goes through Artifact rows."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(settings.BLOB_ROOT)

    def path(self, sha256: str) -> Path:
        """Where the blob lies. Raises NotFound ``artifact.missing`` for what is not a sha256."""
        if not SHA256.fullmatch(sha256):
            raise NotFound("artifact.missing")
        return self.root / sha256[:2] / sha256[2:4] / sha256

    def exists(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def open(self, sha256: str) -> BinaryIO:
        """The blob for reading. Raises NotFound ``artifact.missing`` when it is not there."""
        try:
            return self.path(sha256).open("rb")
        except FileNotFoundError:
            raise NotFound("artifact.missing") from None

    def put_file(self, source: Path, sha256: str) -> None:
        """Move a finished file into the store; the caller has computed its hash. Raises StorageFull ``storage.full``."""
        target = self.path(sha256)
        with disk_full_is_refused():
            if target.is_file():
                source.unlink(missing_ok=True)
                return
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._place(source, target)

    def put_bytes(self, content: bytes) -> str:
        """Store a small content and return its sha256."""
        sha256 = hashlib.sha256(content).hexdigest()
        target = self.path(sha256)
        with disk_full_is_refused():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            piece = target.parent / f".{sha256}.{os.urandom(6).hex()}"
            piece.write_bytes(content)
            self.put_file(piece, sha256)
        return sha256

    def delete(self, sha256: str) -> None:
        """Forget a blob that no row refers to."""
        self.path(sha256).unlink(missing_ok=True)

    def _place(self, source: Path, target: Path) -> None:
        staged = target.parent / f".{target.name}.{os.urandom(6).hex()}"
        try:
            try:
                source.rename(staged)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                shutil.copyfile(source, staged)
                source.unlink()
            staged.chmod(0o444)
            with staged.open("rb") as file:
                os.fsync(file.fileno())
            staged.rename(target)
        finally:
            staged.unlink(missing_ok=True)
        sync_folder(target.parent)
