"""What runs inside a child to test the sandbox around it: hostile deeds, each of which the recipe must stop.

A probe answers ``{name: True}`` where the deed was prevented. What can only be seen from outside (a packet that arrives,
a process that lives on) is judged by ``self_test``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optimizer.errors import InputError
from optimizer.sandbox.context import ChildContext
from optimizer.sandbox.layout import PACKAGE, clean_environment
from optimizer.units import MIB

ALLOWED_VARIABLES = {*clean_environment(""), "PWD", "LC_CTYPE"}
NEW_USER, NEW_NET, PTRACE_ATTACH = 0x10000000, 0x40000000, 16
BEAT_S = 0.02
CLONE_CALL = {"x86_64": 56, "aarch64": 220}
IO_URING_SETUP = 425


def count(context: ChildContext) -> dict[str, Any]:
    """Reply with the numbers below ``upto``, every ``pause_s``, and end."""
    for number in range(context.params["upto"]):
        context.reply({"number": number})
        time.sleep(context.params.get("pause_s", 0.0))
    return {}


def echo(context: ChildContext) -> dict[str, Any]:
    """Answer with the parameters; interactive children echo every command first."""
    if context.params.get("interactive"):
        context.reply({"pid": os.getpid()})
        for command in context.commands():
            context.reply(command)
    return {"params": context.params}


def copy(context: ChildContext) -> dict[str, Any]:
    """Copy the bind ``input`` into the output folder."""
    (context.out_dir / "copy").write_bytes(context.path("input").read_bytes())
    return {"inside": str(context.path("input"))}


def refuse(context: ChildContext) -> dict[str, Any]:
    """Fail on purpose with the code of the parameters."""
    raise InputError(context.params["code"], "The input cannot be used: send another one.")


def refuse_for_memory(context: ChildContext) -> dict[str, Any]:
    """Fail as a runtime does whose allocation failed deep inside."""
    try:
        raise RuntimeError("std::bad_alloc")
    except RuntimeError as error:
        raise InputError("backend.run_failed", "The runtime failed.") from error


def denials(context: ChildContext) -> dict[str, Any]:
    """Try every deed that needs no damage to be noticed; only ``alone`` where the level promises no more."""
    params = context.params
    if params["alone"]:
        return {"environment": set(os.environ) <= ALLOWED_VARIABLES}
    supervisor = int(params["supervisor"])
    deeds: dict[str, Callable[[], object]] = {
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "read_etc": lambda: Path("/etc/passwd").read_bytes(),
        "read_home": lambda: _read_any(params["home_files"]),
        "read_state": lambda: Path(params["secret"]).read_bytes(),
        "write_input": lambda: (context.path("input") / "written").write_text("x"),
        "write_package": lambda: (PACKAGE / ".probe").write_text("x"),
        "user_namespace": lambda: _system("unshare", NEW_USER),
        "clone_namespace": _clone_namespace,
        "mount": lambda: _system("mount", b"none", b"/", b"tmpfs", 0, None),
        "io_uring": lambda: _syscall(IO_URING_SETUP, 1, None),
        "signal_supervisor": lambda: os.kill(supervisor, 0),
        "trace_supervisor": lambda: _system("ptrace", PTRACE_ATTACH, supervisor, None, None),
    }
    prevented = {name: _prevented(deed) for name, deed in deeds.items()}
    _call_home(params)
    return prevented | {"environment": set(os.environ) <= ALLOWED_VARIABLES}


def environment(context: ChildContext) -> dict[str, Any]:
    """The names of the variables that reached the child."""
    return {"names": sorted(os.environ), "values": dict(os.environ)}


def descriptors(context: ChildContext) -> dict[str, Any]:
    """The descriptors that are open in the child."""
    return {"open": [number for number in range(1024) if not _prevented(lambda number=number: os.fstat(number))]}  # type: ignore[misc]


def processor(context: ChildContext) -> dict[str, Any]:
    """What a backend can learn of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    online = Path("/sys/devices/system/cpu/online").read_text().strip()
    return {"flags": sorted(flags), "online": online, "affinity": sorted(os.sched_getaffinity(0)), "cpus": os.cpu_count()}


def memory_bomb(context: ChildContext) -> dict[str, Any]:
    """Allocate private memory until something gives."""
    held = []
    while True:
        held.append(bytearray(b"x") * (64 * MIB))


def shared_memory_bomb(context: ChildContext) -> dict[str, Any]:
    """Allocate memory that RLIMIT_DATA does not count."""
    held = []
    while True:
        held.append(mmap.mmap(-1, 64 * MIB))
        for page in range(0, 64 * MIB, mmap.PAGESIZE):
            held[-1][page] = 1


def file_bomb(context: ChildContext) -> dict[str, Any]:
    """Write one endless file."""
    with (context.out_dir / "bomb").open("wb", buffering=0) as file:
        while file.write(b"x" * MIB):
            pass
    raise OSError(28, "short write")


def folder_bomb(context: ChildContext) -> dict[str, Any]:
    """Write endlessly many files of one MiB."""
    for number in range(1_000_000):
        (context.out_dir / str(number)).write_bytes(b"x" * MIB)
        time.sleep(0.002)
    return {}


def fork_bomb(context: ChildContext) -> dict[str, Any]:
    """Fork in every process, for ever."""
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)


def family(context: ChildContext) -> dict[str, Any]:
    """Hold ``bytes`` and fork ``children`` that share them for ``seconds``."""
    held = bytearray(b"x") * int(context.params["bytes"])
    pids = []
    for _ in range(int(context.params["children"])):
        pid = os.fork()
        if pid == 0:
            time.sleep(float(context.params["seconds"]))
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    return {"held": len(held)}


def endless_loop(context: ChildContext) -> dict[str, Any]:
    """Use the processor for ever."""
    while True:
        pass


def chatter(context: ChildContext) -> dict[str, Any]:
    """Write ``bytes`` to standard output and error in turns."""
    for _ in range(int(context.params["bytes"]) // (2 * MIB)):
        os.write(1, b"o" * MIB)
        os.write(2, b"e" * MIB)
    os.write(1, b"the end")
    return {}


def crash(context: ChildContext) -> dict[str, Any]:
    """End without an answer by the signal ``signal``, or by exit code ``exit``."""
    if "exit" in context.params:
        os._exit(int(context.params["exit"]))
    os.kill(os.getpid(), int(context.params["signal"]))
    time.sleep(60)
    return {}


def answer(context: ChildContext) -> dict[str, Any]:
    """Send ``raw`` as the last word, past every check of the child's own side."""
    connection = socket.socket(fileno=os.dup(3))
    connection.sendall(context.params["raw"].encode() * int(context.params.get("times", 1)) + b"\n")
    time.sleep(60)
    return {}


def nan(context: ChildContext) -> dict[str, Any]:
    """A result that JSON cannot hold."""
    return {"value": float("nan")}


def daemon(context: ChildContext) -> dict[str, Any]:
    """Leave a grandchild in its own session that beats into /out; then stay, or end with ``stay`` false."""
    beats = context.out_dir / "beats"
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _beat(beats)
        os._exit(0)
    while not beats.exists():
        time.sleep(0.005)
    context.reply({"out": str(context.out_dir)})
    if context.params.get("stay", True):
        time.sleep(600)
    return {}


def _beat(path: Path) -> None:
    while True:
        with path.open("ab") as file:
            file.write(b".")
        time.sleep(BEAT_S)


def _prevented(deed: Callable[[], object]) -> bool:
    try:
        deed()
    except OSError:
        return True
    return False


def _read_any(paths: list[str]) -> None:
    """Raises OSError if none can be read."""
    if all(_prevented(Path(path).read_bytes) for path in paths):
        raise PermissionError("none can be read")


def _system(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def _syscall(number: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), str(number))


def _clone_namespace() -> None:
    """``clone`` with a namespace flag; a child that it should make leaves at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    pid = libc.syscall(ctypes.c_long(CLONE_CALL[os.uname().machine]), ctypes.c_ulong(NEW_USER | NEW_NET | 17), None, None, None, None)
    if pid == 0:
        os._exit(0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")


def _call_home(params: dict[str, Any]) -> None:
    """Knock at the supervisor's TCP, UDP and abstract doors; it knows whether anything came through."""
    _knock(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(params["tcp"])))
    _knock(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", int(params["udp"])))
    if sys.platform == "linux":
        _knock(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + params["abstract"])


def _knock(family: int, kind: int, address: Any) -> None:
    try:
        with socket.socket(family, kind) as door:
            door.settimeout(1)
            door.connect(address)
            door.send(b"knock")
    except OSError:
        return
