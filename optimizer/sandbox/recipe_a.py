"""Recipe A: bubblewrap namespaces around the child (security.md 4.1)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from optimizer.errors import EngineFault
from optimizer.sandbox.layout import python_roots, system_folders
from optimizer.units import GIB

SECCOMP_FD = 9
TMPFS_BYTES = 1 * GIB


def available() -> bool:
    """Whether bubblewrap is installed; whether it works is for the self-test to say."""
    return shutil.which("bwrap") is not None


def command(
    inner: Sequence[str], *, environment: Mapping[str, str], binds: Mapping[str, Path], out: Path, tools: bool = False
) -> list[str]:
    """``inner`` wrapped in bubblewrap: no network, no host files but what is listed, own pids, no nested namespaces.

    Binds appear read-only under /in, ``out`` as /out. Raises EngineFault ``sandbox.unavailable`` without bubblewrap.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise EngineFault("sandbox.unavailable", "Sandbox level A needs bubblewrap: apt-get install bubblewrap.")
    return [
        program, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        "--clearenv", *_variables(environment), "--proc", "/proc", "--dev", "/dev",
        "--size", str(TMPFS_BYTES), "--tmpfs", "/tmp",  # noqa: S108 - first, for a checkout or an environment may itself lie below it
        *_host_parts(tools=tools), *_inputs(binds), "--bind", str(out), "/out", "--chdir", "/out", "--add-seccomp-fd", str(SECCOMP_FD), *inner,
    ]  # fmt: skip


def _variables(environment: Mapping[str, str]) -> list[str]:
    return [part for name, value in environment.items() for part in ("--setenv", name, value)]


def _host_parts(*, tools: bool) -> list[str]:
    parts = ["--ro-bind", "/usr", "/usr", "--ro-bind", "/sys/devices/system", "/sys/devices/system"]
    for path, target in system_folders():
        parts += ["--symlink", target, path] if target else ["--ro-bind", path, path]
    return parts + _read_only(python_roots(tools=tools)) + ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]


def _read_only(paths: Sequence[str]) -> list[str]:
    return [part for path in paths for part in ("--ro-bind", path, path)]


def _inputs(binds: Mapping[str, Path]) -> list[str]:
    return [part for name, path in binds.items() for part in ("--ro-bind", str(path.resolve()), f"/in/{name}")]
