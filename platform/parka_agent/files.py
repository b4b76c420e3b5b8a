"""Files of a lease: downloaded once into a content-addressed cache, sent in resumable pieces."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from optimizer.errors import EngineFault
from parka_agent.client import Server, ServerRefused
from parka_agent.protocol import CLAIM_HEADER, File, Lease

PIECE_BYTES = 8 * 2**20
CACHE_BYTES = 8 * 2**30
TUS = {"Tus-Resumable": "1.0.0"}
CONFLICT = 409


def fetch(server: Server, file: File, *, cache: Path) -> Path:
    """The file's local copy, verified by its sha256. Raises EngineFault ``download.mismatch``, ServerRefused."""
    target = cache / file.sha256
    if target.is_file() and target.stat().st_size == file.size:
        os.utime(target)
        return target
    draft = cache / f"{file.sha256}.draft"
    digest = hashlib.sha256()
    with server.download(file.url) as response, draft.open("wb") as output:
        for chunk in response.iter_bytes(2**20):
            digest.update(chunk)
            output.write(chunk)
    if digest.hexdigest() != file.sha256:
        draft.unlink()
        raise EngineFault("download.mismatch", f"{file.name} arrived with another sha256; the attempt is given back.")
    draft.chmod(0o444)
    draft.replace(target)
    trim(cache, keep=target)
    return target


def trim(cache: Path, *, keep: Path) -> None:
    """Delete the files unused longest while the cache is over its size."""
    files = sorted((file for file in cache.iterdir() if file != keep), key=lambda file: file.stat().st_atime)
    total = sum(file.stat().st_size for file in cache.iterdir())
    for file in files:
        if total <= CACHE_BYTES:
            return
        total -= file.stat().st_size
        file.unlink()


class Outbox:
    """Uploads of one attempt (tus 1.0 below the attempt's address)."""

    def __init__(self, server: Server, *, lease: Lease, claim_id: str, patience_s: float) -> None:
        self.server = server
        self.base = f"runs/{lease.run}/attempts/{lease.attempt}/uploads"
        self.claim = {CLAIM_HEADER: claim_id}
        self.patience_s = patience_s

    def send(self, path: Path, *, role: str, sha256: str) -> None:
        """Bring a file to the server. Raises ServerRefused, ServerUnreachable."""
        metadata = {"filename": path.name, "role": role, "sha256": sha256}
        encoded = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in metadata.items())
        head = {**TUS, **self.claim, "Upload-Length": str(path.stat().st_size), "Upload-Metadata": encoded}
        location = self.server.send("POST", self.base, headers=head, patience_s=self.patience_s).headers["Location"]
        with path.open("rb") as content:
            offset = 0
            while piece := self._piece(content.fileno(), offset):
                offset = self._send_piece(location, piece, offset=offset)

    def _piece(self, descriptor: int, offset: int) -> bytes:
        return os.pread(descriptor, PIECE_BYTES, offset)

    def _send_piece(self, location: str, piece: bytes, *, offset: int) -> int:
        """Returns the server's offset; a lost answer shows as 409 with the true one."""
        head = {**TUS, **self.claim, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        try:
            answer = self.server.send("PATCH", location, body=piece, headers=head, patience_s=self.patience_s)
        except ServerRefused as refused:
            if refused.status == CONFLICT and refused.offset is not None and refused.offset > offset:
                return refused.offset
            raise
        return int(answer.headers["Upload-Offset"])
