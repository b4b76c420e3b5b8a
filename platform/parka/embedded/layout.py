"""Where the one-machine form keeps its things: all under one ignored folder."""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from parka.core.errors import Unavailable

FIRST_PORT = 8000
PORTS_TRIED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Paths below the home folder."""

    home: Path

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def agent(self) -> Path:
        return self.home / "agent"

    @property
    def owner_password(self) -> Path:
        return self.home / "secrets" / "owner_password"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def make(self) -> None:
        """Create the folders; the home is private to its user."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(exist_ok=True)
        (self.home / "secrets").mkdir(exist_ok=True, mode=0o700)

    @contextmanager
    def only_one(self) -> Iterator[None]:
        """Hold the home's lock. Raises Unavailable ``up.running`` when another platform holds it."""
        with (self.home / "up.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Unavailable(
                    "up.running", f"A platform already runs in {self.home}; stop it first, or set PARKA_HOME to another folder."
                ) from None
            yield


def free_port(first: int = FIRST_PORT) -> int:
    """The first free loopback port from ``first`` on. Raises Unavailable ``up.no_port``."""
    for port in range(first, first + PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Unavailable("up.no_port", f"No free port between {first} and {first + PORTS_TRIED - 1}; choose one with --port.")
