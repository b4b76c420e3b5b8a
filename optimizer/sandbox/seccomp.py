"""The system-call filter of levels A and B, as one BPF program (security.md 4.1)."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

UNIX_FAMILY = 1
NETWORK_FAMILIES = (2, 10, 16, 17, 38, 40)  # INET, INET6, NETLINK, PACKET, ALG, VSOCK
NAMESPACE_FLAGS = (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000)
FORBIDDEN_CALLS = (
    "ptrace", "process_vm_readv", "process_vm_writev", "mount", "umount2", "unshare", "setns", "pivot_root", "chroot",
    "bpf", "perf_event_open", "keyctl", "add_key", "request_key", "userfaultfd", "kexec_load", "init_module", "finit_module",
    "io_uring_setup", "io_uring_enter", "io_uring_register", "open_by_handle_at",
)  # fmt: skip
SIGNAL_CALLS = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")


@cache
def filter_program(
    *,
    families: Sequence[int] = NETWORK_FAMILIES,
    calls: Sequence[str] = FORBIDDEN_CALLS,
    namespace_flags: Sequence[int] = NAMESPACE_FLAGS,
) -> bytes:
    """The BPF program: everything is allowed but what could reach the network, the kernel's rare doors or other processes.

    A refused ``socket`` answers EACCES, a refused call EPERM, ``clone3`` ENOSYS so that glibc falls back to the
    checkable ``clone``. Raises ImportError or OSError where libseccomp is missing.
    """
    import pyseccomp

    program = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    _forbid_socket_families(program, pyseccomp, families)
    _forbid_namespaces(program, pyseccomp, namespace_flags)
    for name in calls:
        _forbid(program, pyseccomp, name)
    return _exported(program)


def families_below_abi(abi: int) -> tuple[int, ...]:
    """Landlock scopes abstract sockets from ABI 6; below it the whole UNIX family is refused."""
    return NETWORK_FAMILIES if abi >= 6 else (*NETWORK_FAMILIES, UNIX_FAMILY)


def calls_below_abi(abi: int) -> tuple[str, ...]:
    """Landlock scopes signals from ABI 6; below it a child may send none (abort still ends it)."""
    return FORBIDDEN_CALLS if abi >= 6 else (*FORBIDDEN_CALLS, *SIGNAL_CALLS)


def _forbid_socket_families(program: Any, pyseccomp: Any, families: Sequence[int]) -> None:
    for family in families:
        program.add_rule(pyseccomp.ERRNO(errno.EACCES), "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))


def _forbid_namespaces(program: Any, pyseccomp: Any, flags: Sequence[int]) -> None:
    for flag in flags:
        program.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    if flags:
        program.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")


def _forbid(program: Any, pyseccomp: Any, name: str) -> None:
    if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0:
        program.add_rule(pyseccomp.ERRNO(errno.EPERM), name)


def _exported(program: Any) -> bytes:
    descriptor = os.memfd_create("parka-seccomp")
    with os.fdopen(descriptor, "r+b") as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()
