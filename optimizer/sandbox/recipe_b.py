"""Recipe B: what Landlock lets a child touch (security.md 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from optimizer.sandbox.landlock import MIN_ABI, NO_EXECUTE, READ_EXECUTE, READ_ONLY, READ_WRITE_FILE, abi, handled_rights
from optimizer.sandbox.layout import PROCESSOR_FACTS, python_roots

READABLE = (*PROCESSOR_FACTS, "/etc/ld.so.cache", "/dev/urandom", "/dev/zero")
LIBRARIES = ("/usr", "/bin", "/lib", "/lib32", "/lib64")


def available() -> bool:
    """Whether this kernel's Landlock is new enough."""
    return abi() >= MIN_ABI


def rules(binds: Mapping[str, Path], *, out: Path, scratch: Path, tools: bool = False) -> list[tuple[str, int]]:
    """``(path, rights)``: libraries and interpreter to read and run, inputs to read, ``out`` and ``scratch`` for all but running."""
    everything_but_run = handled_rights(abi()) & NO_EXECUTE
    return [
        *((path, READ_EXECUTE) for path in (*LIBRARIES, *python_roots(tools=tools))),
        *((path, READ_ONLY) for path in READABLE),
        ("/dev/null", READ_WRITE_FILE),
        *((str(path.resolve()), READ_ONLY) for path in binds.values()),
        *((str(path), everything_but_run) for path in (out, scratch)),
    ]
