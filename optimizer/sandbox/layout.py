"""What of the host a child needs to see: interpreter, libraries, our own package, processor facts."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from optimizer import tools as declared
from optimizer.extensions import import_roots

PACKAGE = Path(__file__).resolve().parent.parent
CHILD_SCRIPT = PACKAGE / "sandbox" / "child.py"
SPAWNER_SCRIPT = PACKAGE / "sandbox" / "spawner.py"
PROCESSOR_FACTS = ("/proc/cpuinfo", "/sys/devices/system")


def python_roots(*, tools: bool = False) -> tuple[str, ...]:
    """Folders of the interpreter, its virtual environment, this package, registered ones and, where they are asked for, declared tools.

    Without those inside another or in /usr.
    """
    wanted = {*_own_roots(), *(Path(root) for root in (declared.roots() if tools else ()))}
    kept: list[Path] = []
    for root in sorted(wanted, key=lambda path: len(path.parts)):
        if not any(root.is_relative_to(outer) for outer in (*kept, Path("/usr"))):
            kept.append(root)
    return tuple(str(root) for root in kept)


@cache
def _own_roots() -> frozenset[Path]:
    executable = Path(sys.executable).resolve()
    own = (Path(sys.prefix), Path(sys.base_prefix), Path(sys.base_exec_prefix), executable.parent.parent, PACKAGE)
    return frozenset((*own, *map(Path, import_roots())))


def python_command(descriptor: int) -> list[str]:
    """The child's command line; its job arrives on ``descriptor``."""
    return [sys.executable, "-I", str(CHILD_SCRIPT), "--job-fd", str(descriptor)]


def clean_environment(scratch: str, *, tools: bool = False) -> dict[str, str]:
    """The child's whole environment; ``scratch`` is its private folder. Thread counts stay the backends' own choice."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": scratch,
        "TMPDIR": scratch,
        "LANG": "C.UTF-8",
        "ORT_DISABLE_TELEMETRY": "1",
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
        "HF_HUB_OFFLINE": "1",
        **(declared.for_children() if tools else {}),
    }


def system_folders() -> tuple[tuple[str, str | None], ...]:
    """Top-level library folders as (path, symlink target or None); merged-/usr hosts have symlinks."""
    names = ("/bin", "/lib", "/lib32", "/lib64")
    return tuple((name, str(Path(name).readlink()) if Path(name).is_symlink() else None) for name in names if os.path.lexists(name))
