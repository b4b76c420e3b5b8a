"""What the agent keeps on disk: its identity (mode 0600) and the spool of reports that the server has not accepted yet."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from optimizer.errors import InputError

IDENTITY = "state.json"
LOCK = "measuring.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this agent is to which server."""

    server: str
    agent_id: str
    agent_token: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """A report that must reach the server, in the order it was made."""

    method: str
    path: str
    body: bytes
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The agent's folder."""

    folder: Path

    def make(self) -> None:
        """Create the folders, private to their user."""
        for folder in (self.folder, self.spool, self.cache, self.work):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / LOCK).touch()

    @contextmanager
    def only_one(self) -> Iterator[None]:
        """Hold the folder for this process; the kernel frees it when the process dies. Raises InputError ``agent.running``."""
        with (self.folder / "run.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    "agent.running", f"An agent is already running from {self.folder}; stop it, or use another --home."
                ) from None
            yield

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def measuring_lock(self) -> Path:
        return self.folder / LOCK

    def is_registered(self) -> bool:
        return (self.folder / IDENTITY).is_file()

    def identity(self) -> Identity:
        """Raises InputError ``agent.not_registered``."""
        if not self.is_registered():
            raise InputError(
                "agent.not_registered", f"{self.folder} holds no registration; run: parka-agent register --server URL --token pkr_…"
            )
        return Identity(**json.loads((self.folder / IDENTITY).read_text()))

    def keep(self, identity: Identity) -> None:
        """Store the identity so that a crash leaves either the old or the new one."""
        write_durably(self.folder / IDENTITY, json.dumps(asdict(identity)).encode())

    def spool_report(self, method: str, path: str, body: bytes) -> Spooled:
        """Make a report survive this process before it is sent."""
        number = max((int(file.stem) for file in self.spool.glob("*.json")), default=0) + 1
        file = self.spool / f"{number:08d}.json"
        write_durably(file, json.dumps({"method": method, "path": path, "body": body.decode()}).encode())
        return Spooled(method=method, path=path, body=body, file=file)

    def spooled(self) -> Iterator[Spooled]:
        """Reports left from before, oldest first."""
        for file in sorted(self.spool.glob("*.json")):
            entry = json.loads(file.read_text())
            yield Spooled(method=entry["method"], path=entry["path"], body=entry["body"].encode(), file=file)


def write_durably(path: Path, content: bytes) -> None:
    """Write, fsync and rename, then fsync the folder."""
    draft = path.with_suffix(".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
