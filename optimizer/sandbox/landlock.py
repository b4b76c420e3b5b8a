"""Landlock and its companions by raw system calls: what level B applies to itself before it becomes the child."""

from __future__ import annotations

import ctypes
import os
import platform
import stat
from collections.abc import Iterable

MIN_ABI = 3
READ_ONLY = 1 << 2 | 1 << 3
READ_EXECUTE = 1 << 0 | READ_ONLY
READ_WRITE_FILE = 1 << 1 | 1 << 2
NO_EXECUTE = ~(1 << 0)
FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = _LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def abi() -> int:
    """The kernel's Landlock ABI, 0 where it is missing or switched off."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0


def handled_rights(version: int) -> int:
    """File-system rights that a ruleset of this ABI can withhold."""
    return (1 << 16) - 1 if version >= 5 else (1 << 15) - 1


def no_new_privileges() -> None:
    """From here on ``execve`` never raises privileges."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(signal_number: int) -> None:
    """Ask for a signal when the parent thread ends; the parent must be single-threaded or long-lived."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def adopt_orphans() -> None:
    """Descendants that lose their parent come to this process, whatever sessions they made."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def restrict(rules: Iterable[tuple[str, int]]) -> None:
    """Confine this thread to ``(path, rights)``; missing paths are skipped. ``no_new_privileges`` comes first.

    Raises OSError where the kernel refuses.
    """
    version = abi()
    attributes = _Ruleset(fs=handled_rights(version), net=0b11 if version >= 4 else 0, scoped=0b11 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & handled_rights(version))
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(parent).st_mode):
            rights &= FILE_RIGHTS
        rule = _PathBeneath(allowed=rights, parent=parent)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(parent)


def load_filter(program: bytes) -> None:
    """Install a seccomp BPF program on this thread; ``no_new_privileges`` comes first."""
    number = _SECCOMP[platform.machine()]
    _call(number, ctypes.c_uint(1), ctypes.c_uint(0), ctypes.byref(_Program(length=len(program) // 8, code=program)))
