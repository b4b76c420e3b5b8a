"""The parts of the one-machine platform and the order in which they start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx

from parka.celery import QUEUES
from parka.embedded.layout import Layout, free_port
from parka.embedded.processes import Keeper, Program, StartFailed
from parka.embedded.valkey import Valkey

LOOP_EVERY_S = 0.25
OWNER_EMAIL = "owner@parka.localhost"
TEAM_NAME = "My team"
AGENT_NAME = "This machine"
Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Stack:
    """Web, Celery worker, beat, Valkey and a local agent on loopback."""

    layout: Layout
    port: int
    say: Say
    valkey: Valkey
    keeper: Keeper = field(init=False)

    def __post_init__(self) -> None:
        self.keeper = Keeper(say=self.say)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the platform sees."""
        return {
            **os.environ,
            "PARKA_HOME": str(self.layout.home),
            "PARKA_EMBEDDED": "1",
            "PARKA_PUBLIC_URL": self.url,
            "REDIS_URL": self.valkey.url,
            "DJANGO_SETTINGS_MODULE": "parka.settings",
            "ORT_DISABLE_TELEMETRY": "1",
        }

    def start(self) -> None:
        """Bring everything up in order; each step is said before it is done."""
        self.say("Starting Valkey")
        self.keeper.start(self._program("valkey", self.valkey.command, ready=self.valkey.answers))
        self.say("Preparing the database")
        self._once("migrate", "migrate", "--no-input")
        self._once("collectstatic", "collectstatic", "--no-input")
        self.say(f"Starting web, worker and scheduler ({self.url})")
        self.keeper.start(self._program("web", self._web_command(), ready=self._web_answers))
        self.keeper.start(self._program("worker", self._worker_command()))
        self.keeper.start(self._program("beat", self._beat_command()))

    def start_agent(self, *, registration_token: str | None) -> None:
        """Register this machine once by the real protocol, then keep its agent running."""
        if registration_token:
            self.say("Registering this machine as an agent: probing, sandbox self-test, micro-benchmarks")
            arguments = [
                "register",
                "--server",
                self.url,
                "--token",
                registration_token,
                "--home",
                str(self.layout.agent),
                "--name",
                AGENT_NAME,
            ]
            self._run("agent-register", [*agent_command(), *arguments])
        self.keeper.start(self._program("agent", [*agent_command(), "run", "--home", str(self.layout.agent), "--server", self.url]))

    def is_registered(self) -> bool:
        """Whether an agent's credentials are stored here."""
        return any(self.layout.agent.glob("state*.json"))

    def stop(self) -> None:
        self.keeper.stop()
        self.valkey.remove()

    def _program(self, name: str, command: list[str], *, ready: Callable[[], bool] = lambda: True) -> Program:
        return Program(name=name, command=command, environment=self.environment, log=self.layout.log(name), ready=ready)

    def _once(self, name: str, *arguments: str) -> None:
        self._run(name, [sys.executable, "-m", "django", *arguments])

    def _run(self, name: str, command: list[str]) -> None:
        log = self.layout.log(name)
        with log.open("ab") as output:
            code = subprocess.run(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
            ).returncode
        if code != 0:
            raise StartFailed(self._program(name, command), f"failed with code {code}")

    def _web_command(self) -> list[str]:
        options = [
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--lifespan",
            "off",
            "--timeout-graceful-shutdown",
            "5",
            "--no-access-log",
        ]
        return [sys.executable, "-m", "uvicorn", "parka.asgi:application", *options]

    def _worker_command(self) -> list[str]:
        options = ["-Q", ",".join(QUEUES), "-c", "1", "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        return [sys.executable, "-m", "celery", "-A", "parka", "worker", *options]

    def _beat_command(self) -> list[str]:
        return [sys.executable, "-m", "celery", "-A", "parka", "beat", "-l", "INFO", "-s", str(self.layout.home / "beat-schedule")]

    def _web_answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


def agent_command() -> list[str]:
    """The agent's own program, under this interpreter."""
    return [sys.executable, "-m", "parka_agent.cli"]


class Stopped(Exception):
    """Ctrl-C or SIGTERM."""


@contextmanager
def running_stack(home: Path, *, port: int | None, say: Say) -> Iterator[Stack]:
    """A started stack that is always stopped again; SIGTERM ends it like Ctrl-C."""
    layout = Layout(home=home)
    layout.make()
    with layout.only_one():
        stack = Stack(layout=layout, port=port or free_port(), say=say, valkey=Valkey.configure())
        previous = signal.signal(signal.SIGTERM, _raise_stopped)
        try:
            stack.start()
            yield stack
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            stack.stop()
            signal.signal(signal.SIGTERM, previous)


def serve(stack: Stack) -> None:
    """Keep everything alive until Ctrl-C or SIGTERM."""
    try:
        while True:
            stack.keeper.tick()
            time.sleep(LOOP_EVERY_S)
    except (KeyboardInterrupt, Stopped):
        stack.say("Stopping")


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped
