"""Proves a sandbox level on this very machine by doing what must be impossible (security.md 4.3)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimizer.errors import EngineFault
from optimizer.sandbox import probes
from optimizer.sandbox.context import ChildContext
from optimizer.sandbox.job import ChildJob, Level, Limits
from optimizer.sandbox.session import ChildDied
from optimizer.sandbox.supervisor import Sandbox
from optimizer.units import MIB

VICTIM_SCRIPT = Path(__file__).with_name("victim.py")
TIGHT = Limits(wall_s=20, memory_bytes=256 * MIB, file_bytes=16 * MIB, out_bytes=64 * MIB, processes=48)
END_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelReport:
    """Which probes of one level held; ``reason`` names what broke the test itself."""

    level: Level
    checks: dict[str, bool] = field(default_factory=dict)
    reason: str = ""

    @property
    def passed(self) -> bool:
        return not self.reason and bool(self.checks) and all(self.checks.values())


def self_test(level: Level, *, root: Path) -> LevelReport:
    """Run every probe that belongs to the level; needs a few seconds. ``root`` is a scratch folder."""
    checks: dict[str, bool] = {}
    folder = root / f"self-test-{secrets.token_hex(4)}"
    try:
        with Sandbox(root=folder, level=level) as sandbox:
            checks |= _denials(sandbox, folder=folder)
            checks["processor"] = _same_processor(sandbox)
            checks |= _bombs(sandbox)
            checks["grandchild_after_child"] = _grandchild_dies_with_child(sandbox)
        checks["grandchild_after_supervisor"] = _grandchild_dies_with_supervisor(level, folder=folder)
    except (EngineFault, ChildDied, OSError) as error:
        return LevelReport(level=level, checks=checks, reason=str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return LevelReport(level=level, checks=checks)


def _denials(sandbox: Sandbox, *, folder: Path) -> dict[str, bool]:
    inputs = folder / "input"
    inputs.mkdir()
    secret = folder / "secret"
    secret.write_text("an agent's token")
    with _doors() as (addresses, knocked):
        params = {
            "alone": sandbox.level is Level.C,
            "supervisor": os.getpid(),
            "secret": str(secret),
            "home_files": _home_files(),
            **addresses,
        }
        outcome = sandbox.run(ChildJob(entry=_entry(probes.denials), params=params, binds={"input": inputs}, limits=TIGHT))
        if outcome.result is None:
            raise EngineFault("sandbox.probe_failed", f"The probe did not answer: {outcome.failure}.")
        came = {} if sandbox.level is Level.C else knocked()
        return {**outcome.result, **{name: not through for name, through in came.items()}}


def _home_files() -> list[str]:
    """A few real files of this user's home that nobody inside should read."""
    try:
        with os.scandir(Path.home()) as entries:
            return [entry.path for entry in entries if entry.is_file() and os.access(entry.path, os.R_OK)][:5]
    except (OSError, RuntimeError):
        return []


@contextlib.contextmanager
def _doors() -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, bool]]]]:
    """Listening sockets of this process: their addresses, and a function that says at which one somebody knocked."""
    name = f"parka-{secrets.token_hex(8)}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as abstract,
    ):
        udp.bind(("127.0.0.1", 0))
        if sys.platform == "linux":
            abstract.bind("\0" + name)
            abstract.listen()
        for door in (tcp, udp, abstract):
            door.setblocking(False)
        addresses = {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1], "abstract": name}
        yield addresses, lambda: {"tcp": _came(tcp.accept), "udp": _came(lambda: udp.recv(16)), "abstract": _came(abstract.accept)}


def _came(receive: Callable[[], Any]) -> bool:
    try:
        receive()
    except OSError:
        return False
    return True


def _same_processor(sandbox: Sandbox) -> bool:
    """Backends must see the same features inside as outside, or the sandbox itself would invent a speed-up."""
    if sys.platform != "linux":
        return True
    outside = probes.processor(None)  # type: ignore[arg-type]
    return sandbox.run(ChildJob(entry=_entry(probes.processor), limits=TIGHT)).result == outside


def _bombs(sandbox: Sandbox) -> dict[str, bool]:
    expected = {
        "memory_bomb": (probes.memory_bomb, "child.oom"),
        "shared_memory_bomb": (probes.shared_memory_bomb, "child.oom"),
        "file_bomb": (probes.file_bomb, "child.disk"),
        "fork_bomb": (probes.fork_bomb, "child.crash"),
    }
    if sys.platform != "linux":
        expected = {"file_bomb": expected["file_bomb"]}
    return {name: _ends_with(sandbox, probe, code=code) for name, (probe, code) in expected.items()}


def _ends_with(sandbox: Sandbox, probe: Callable[[ChildContext], dict[str, Any]], *, code: str) -> bool:
    outcome = sandbox.run(ChildJob(entry=_entry(probe), limits=TIGHT))
    shutil.rmtree(outcome.out_dir, ignore_errors=True)
    return outcome.failure is not None and outcome.failure.code == code


def _grandchild_dies_with_child(sandbox: Sandbox) -> bool:
    outcome = sandbox.run(ChildJob(entry=_entry(probes.daemon), params={"stay": False}, limits=TIGHT))
    return outcome.ok and falls_silent(outcome.out_dir / "beats")


def _grandchild_dies_with_supervisor(level: Level, *, folder: Path) -> bool:
    with subprocess.Popen(
        [sys.executable, "-I", str(VICTIM_SCRIPT), str(level), str(folder / "victim")], stdout=subprocess.PIPE, text=True
    ) as victim:
        out = victim.stdout.readline().strip() if victim.stdout else ""
        victim.kill()
    return bool(out) and falls_silent(Path(out) / "beats")


def falls_silent(beats: Path) -> bool:
    """Whether a beating process stops within a few seconds; True only if it had begun."""
    deadline_s = time.monotonic() + END_S
    while time.monotonic() < deadline_s:
        before = _size(beats)
        time.sleep(10 * probes.BEAT_S)
        if before and _size(beats) == before:
            return True
    return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _entry(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{function.__name__}"
