"""The process that forks children: small, single-threaded, started once per Sandbox.

``spawner`` reads requests from its supervisor and forks a guardian for each; the guardian forks the child, adopts every
orphan below it and ends the whole tree when the child ends, when it is told to, or when the supervisor is gone, however
it went. Forking here and not in the supervisor keeps the death signal away from short-lived threads. Standard library only.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

JOB_FD = 3
SECCOMP_FD = 9
FAILED_TO_ENTER = 125
PARENT_CHECK_S = 1.0
REQUEST_BYTES = 1 << 20

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from optimizer.sandbox import cgroup, landlock  # noqa: E402
from optimizer.sandbox.processes import children_by_parent, descendants  # noqa: E402

LINUX = sys.platform == "linux"


def main() -> None:
    """Serve spawn requests on the inherited socket until the supervisor is gone."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    supervisor = os.getppid()
    wake = wake_on_signals(signal.SIGCHLD)
    guardians: set[int] = set()
    if LINUX:
        landlock.adopt_orphans()
    cgroup.sweep()
    while os.getppid() == supervisor:
        readable, _, _ = select.select([connection.fileno(), wake], [], [], PARENT_CHECK_S)
        if wake in readable:
            os.read(wake, 4096)
            _reap(guardians)
        if connection.fileno() in readable and not _serve(connection, guardians):
            return


def wake_on_signals(*numbers: int) -> int:
    """Turn signals into bytes on the returned descriptor, so that ``select`` sees them."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return wake


def _reap(guardians: set[int]) -> None:
    """Waiting, instead of ignoring SIGCHLD, keeps the processor time of the ended on this process's account."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            guardians.discard(pid)
            if status != 0:
                _kill_unguarded(guardians)


def _kill_unguarded(guardians: set[int]) -> None:
    """Whoever came to this process because its guardian was killed loses its whole tree."""
    table = children_by_parent()
    pending = [pid for pid in table.get(os.getpid(), []) if pid not in guardians]
    for pid in pending:
        pending += table.get(pid, [])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _serve(connection: socket.socket, guardians: set[int]) -> bool:
    request, descriptors = _receive(connection)
    if request is None:
        return False
    pid = os.fork()
    if pid == 0:
        connection.close()
        _as_guardian(request, descriptors)
    guardians.add(pid)
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")
    return True


def _receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """One request line with the descriptors (job, log, status) that came along."""
    text, descriptors, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 3)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    while text and not text.endswith(b"\n"):
        text += connection.recv(REQUEST_BYTES)
    return (json.loads(text) if text else None), list(descriptors)


def _as_guardian(request: dict[str, Any], descriptors: list[int]) -> None:
    code = 1
    try:
        Guardian(request, descriptors).run()
        code = 0
    finally:
        os._exit(code)


class Guardian:
    """Parent and subreaper of one child; speaks one-letter commands on the status socket: K kill, S stop, C continue."""

    def __init__(self, request: dict[str, Any], descriptors: list[int]) -> None:
        self.request = request
        self.job, self.log = descriptors[:2]
        self.status = socket.socket(fileno=descriptors[2])
        self.exit_status: int | None = None
        self.cpu_s = 0.0
        self.memory_peak_bytes = 0

    def run(self) -> None:
        os.setsid()
        self.wake = wake_on_signals(signal.SIGCHLD, signal.SIGTERM)
        if LINUX:
            landlock.adopt_orphans()
            landlock.die_with_parent(signal.SIGTERM)
        self.group = cgroup.open_group(processes=self.request["processes"])
        self.child = os.fork()
        if self.child == 0:
            self._become_child()
        os.close(self.job)
        os.close(self.log)
        while self.exit_status is None:
            self._wait()
        if self._has_children():
            self._kill_tree()
        if self.group is not None:
            cgroup.close_group(self.group)
        self._report()

    def _become_child(self) -> None:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            if self.group is not None:
                cgroup.join(self.group)
            enter(self.request, job=self.job, log=self.log, guardian=os.getppid())
        except BaseException as error:  # whatever went wrong, this fork must not run on as a guardian
            os.write(2, f"parka: the child could not be started: {error!r}\n".encode())
        finally:
            os._exit(FAILED_TO_ENTER)

    def _wait(self) -> None:
        readable, _, _ = select.select([self.status.fileno(), self.wake], [], [])
        if self.wake in readable and int(signal.SIGTERM) in os.read(self.wake, 4096):
            self._kill_tree()
        if self.status.fileno() in readable:
            self._obey(self.status.recv(64))
        self._reap()

    def _obey(self, commands: bytes) -> None:
        for command in commands or b"K":
            if command == ord("K"):
                self._kill_tree()
            else:
                self._signal_tree(signal.SIGSTOP if command == ord("S") else signal.SIGCONT)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._count(pid, status, usage)

    @staticmethod
    def _has_children() -> bool:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _count(self, pid: int, status: int, usage: Any) -> None:
        self.cpu_s += usage.ru_utime + usage.ru_stime
        self.memory_peak_bytes = max(self.memory_peak_bytes, usage.ru_maxrss * (1024 if LINUX else 1))
        if pid == self.child:
            self.exit_status = status

    def _signal_tree(self, number: int) -> int:
        pids = descendants(os.getpid()) or ([] if LINUX or self.exit_status is not None else [self.child])
        for pid in pids:
            self._signal(pid, number)
        return len(pids)

    def _kill_tree(self) -> None:
        """End the child's group at one stroke; stop what escaped it before killing, so that no fork bomb outruns the killing."""
        if self.exit_status is None:
            with contextlib.suppress(OSError):
                os.killpg(self.child, signal.SIGKILL)
            self._signal(self.child, signal.SIGKILL)
        known = -1
        while known != (known := self._signal_tree(signal.SIGSTOP)):
            pass
        pause_s = 0.001
        while self._signal_tree(signal.SIGKILL):
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)
            self._reap()
        self._reap()

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def _report(self) -> None:
        report = {"status": self.exit_status, "cpu_s": self.cpu_s, "memory_peak_bytes": self.memory_peak_bytes}
        with contextlib.suppress(OSError):
            self.status.sendall(json.dumps(report).encode() + b"\n")


def enter(request: dict[str, Any], *, job: int, log: int, guardian: int) -> None:
    """Turn this fork into the child: descriptors, limits, confinement, ``execve``. Never returns."""
    os.setsid()
    program = base64.b64decode(request["seccomp"])
    _place_descriptors(job=job, log=log, program=program if request["level"] == "A" else b"")
    if LINUX:
        landlock.die_with_parent(signal.SIGKILL)
        if os.getppid() != guardian:
            os._exit(FAILED_TO_ENTER)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")
    _limit(request["rlimits"])
    os.chdir(request["folder"])
    if request["level"] == "B":
        landlock.no_new_privileges()
        landlock.restrict((path, rights) for path, rights in request["rules"])
        landlock.load_filter(program)
    command = [*request["command"], "--started-ns", str(time.perf_counter_ns())]
    os.execve(command[0], command, request["environment"])  # noqa: S606


def _place_descriptors(*, job: int, log: int, program: bytes) -> None:
    import fcntl

    reader, writer = os.pipe()
    os.write(writer, program)
    os.close(writer)
    job, log, reader = (fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 32) for descriptor in (job, log, reader))
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2), (job, JOB_FD), *([(reader, SECCOMP_FD)] if program else [])):
        os.dup2(source, target, inheritable=True)


def _limit(limits: dict[str, int]) -> None:
    import resource

    for name, value in limits.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            _, hard = resource.getrlimit(kind)
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            slack = 5 if name == "RLIMIT_CPU" else 0  # the soft limit ends the child by a signal that names the cause
            ceiling = bound + slack if hard == resource.RLIM_INFINITY else min(bound + slack, hard)
            resource.setrlimit(kind, (bound, ceiling))


if __name__ == "__main__":
    main()
