"""The whole platform on loopback for flow tests: real web server, worker, beat, Valkey and agent, on a database of its own.

``started_stack`` is the platform's own ``Stack`` with the controls a test needs: kill a process the hard way, wait for the
keeper to restart it, speak to the public API. Every wait is bounded.
"""

from __future__ import annotations

import os
import secrets
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import httpx
import psutil

from parka.core.errors import Unavailable
from parka.embedded.demo import Api, scorecard_of
from parka.embedded.layout import Layout
from parka.embedded.processes import Kept
from parka.embedded.session import Owner, prepare_owner
from parka.embedded.stack import Stack
from parka.embedded.valkey import Valkey
from tests.ports import own_port

T = TypeVar("T")
TICK_S = 0.1
LOOK_S = 0.25
PATIENCE_S = 120.0
TERMINAL = {"finished", "failed", "cancelled", "lost"}
OWN_VARIABLES = ("REDIS_URL", "BROKER_URL", "CACHE_URL", "DATABASE_URL", "PARKA_HOME", "PARKA_EMBEDDED", "DJANGO_SETTINGS_MODULE")


class TooLate(AssertionError):
    """Something did not happen in time; the message ends with the tail of the logs."""


@dataclass(slots=True)
class LiveStack:
    """A started platform. ``api`` speaks as the owner of ``team`` with ``token``."""

    stack: Stack
    owner: Owner
    said: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _keeping: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return self.stack.url

    @property
    def team(self) -> str:
        return self.owner.team

    @property
    def token(self) -> str:
        return self.owner.api_token

    @property
    def home(self) -> Path:
        return self.stack.layout.home

    @property
    def api(self) -> Api:
        return Api(self.url, self.token, tick=lambda: None)

    def kept(self, name: str) -> Kept:
        """One of valkey, web, worker, beat, agent."""
        return self.stack.keeper.kept[name]

    def process(self, name: str) -> psutil.Process:
        return psutil.Process(self.kept(name).process.pid)

    def kill(self, name: str) -> None:
        """SIGKILL that one process, not its group, and wait until it is gone; the keeper starts it again by itself."""
        kept = self.kept(name)
        with self._keeping:
            os.kill(kept.process.pid, signal.SIGKILL)
            kept.process.wait(timeout=10)

    def restart(self, name: str, *, within_s: float = 60.0) -> None:
        """Wait until the keeper has started the killed process again."""
        kept = self.kept(name)
        self.wait(lambda: kept.process.poll() is None and kept.program.ready(), what=f"{name} to be back", most_s=within_s)

    def tick_on(self) -> None:
        """The keeper's loop, in a thread of its own."""
        while not self._stopping.wait(TICK_S):
            with self._keeping:
                self.stack.keeper.tick()

    def stop(self) -> None:
        self._stopping.set()
        with self._keeping:
            self.stack.stop()

    def wait(self, look: Callable[[], T | None], *, what: str, most_s: float = PATIENCE_S) -> T:
        """The first thing that is there, not empty and not False. Raises TooLate."""
        until = time.monotonic() + most_s
        while time.monotonic() < until:
            found = look()
            if found:
                return found
            time.sleep(LOOK_S)
        raise TooLate(f"waited {most_s:.0f} s for {what}\n{self.tails()}")

    def tails(self, *, lines: int = 15) -> str:
        """The end of every log."""
        found = []
        for log in sorted(self.stack.layout.logs.glob("*.log")):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            found.append(f"--- {log.name}\n{tail}")
        return "\n".join(found)

    def wait_for_agent(self, *, most_s: float = PATIENCE_S) -> dict[str, Any]:
        """The local agent once it is online."""
        return self.wait(
            lambda: next((agent for agent in self.api.get("/agents")["items"] if agent["online"]), None), what="the agent", most_s=most_s
        )

    def ready_version(self, file: Path, *, name: str, most_s: float = PATIENCE_S) -> dict[str, Any]:
        """Upload a model and wait for its inspection."""
        upload = self.api.upload(file, role="model", on_bytes=lambda sent: None)
        made = self.api.post("/models", {"upload": upload, "name": name})
        path = f"/models/{made['model']}/versions/{made['number']}"
        settled = self.wait(lambda: _settled(self.api.get(path)), what="the inspection", most_s=most_s)
        assert settled["state"] == "ready", settled
        return settled

    def start_run(self, version: dict[str, Any], agent: dict[str, Any], **question: Any) -> str:
        """Start an experiment on one agent; the id of its run."""
        body = {"version": version["id"], "agents": [agent["id"]], "targets": [], "bindings": {}, **question}
        return str(self.api.post("/experiments", body)["runs"][0])

    def run(self, run_id: str) -> dict[str, Any]:
        """The run as the API shows it; waits out moments in which the server is away."""
        return self.wait(lambda: self._peek(run_id), what="the API")

    def wait_until(self, run_id: str, told: Callable[[dict[str, Any]], bool], *, what: str, most_s: float = PATIENCE_S) -> dict[str, Any]:
        """The run once ``told`` holds; a run that ends before that is shown at once."""

        def look() -> dict[str, Any] | None:
            run = self.run(run_id)
            if told(run):
                return run
            if run["status"] in TERMINAL:
                raise TooLate(f"the run ended before {what}: {run}\n{self.tails()}")
            return None

        return self.wait(look, what=what, most_s=most_s)

    def wait_for_end(self, run_id: str, *, most_s: float = 300.0) -> dict[str, Any]:
        """The run in a terminal state."""
        return self.wait_until(run_id, lambda run: run["status"] in TERMINAL, what="the run's end", most_s=most_s)

    def trials(self, run_id: str) -> list[dict[str, Any]]:
        """The run's trials with their accepted stages."""
        return list(self.api.get(f"/runs/{run_id}/trials")["items"])

    def stages(self, run_id: str) -> dict[tuple[int, str], int]:
        """Attempt of each accepted stage by trial and name."""
        return {(trial["index"], stage["stage"]): stage["attempt"] for trial in self.trials(run_id) for stage in trial["stages"]}

    def scorecard(self, run_id: str, *, most_s: float = PATIENCE_S) -> dict[str, Any]:
        """The scorecard once the worker has made it."""
        return self.wait(lambda: scorecard_of(self.api, {"id": run_id}), what="the scorecard", most_s=most_s)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Look into the platform's own database; ``?`` stands for a value."""
        url = self.stack.environment.get("DATABASE_URL", "")
        if url.startswith("postgresql"):
            import psycopg

            with psycopg.connect(url) as connection:
                return connection.execute(query.replace("?", "%s"), values).fetchall()
        with closing(sqlite3.connect(self.home / "db.sqlite3", timeout=20)) as connection:
            return connection.execute(query, values).fetchall()

    def children_of(self, name: str, *, running: str) -> list[psutil.Process]:
        """Descendants of a process whose command line holds ``running``."""
        found = []
        for child in self.process(name).children(recursive=True):
            with suppress(psutil.Error):
                if running in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def _peek(self, run_id: str) -> dict[str, Any] | None:
        try:
            return dict(self.api.get(f"/runs/{run_id}"))
        except (httpx.HTTPError, Unavailable) as error:
            self.said.append(f"the API was away: {error}")
            return None


@contextmanager
def started_stack(home: Path) -> Iterator[LiveStack]:
    """A running platform under ``home``, always stopped again; on PostgreSQL when ``PARKA_TEST_DATABASE=postgres``."""
    layout = Layout(home=home)
    layout.make()
    said: list[str] = []
    live: LiveStack | None = None
    with own_environment(own_database()):
        stack = Stack(layout=layout, port=own_port(), say=said.append, valkey=Valkey.configure())
        try:
            stack.start()
            owner = prepare_owner(stack)
            stack.start_agent(registration_token=owner.registration_token)
            live = LiveStack(stack=stack, owner=owner, said=said)
            threading.Thread(target=live.tick_on, daemon=True).start()
            yield live
        finally:
            if live is None:
                stack.stop()
            else:
                live.stop()


@contextmanager
def own_environment(database_url: str | None) -> Iterator[None]:
    """The stack's processes must not see the database and Valkey of the test session."""
    saved = {name: os.environ.pop(name, None) for name in OWN_VARIABLES}
    if database_url:
        os.environ["DATABASE_URL"] = database_url
    try:
        yield
    finally:
        os.environ.pop("DATABASE_URL", None)
        os.environ.update({name: value for name, value in saved.items() if value is not None})


def own_database() -> str | None:
    """A fresh database in the session's PostgreSQL; None for SQLite, which lies in the home."""
    if os.environ.get("PARKA_TEST_DATABASE") != "postgres":
        return None
    import psycopg

    url = os.environ["DATABASE_URL"]
    name = f"flow_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _settled(version: dict[str, Any]) -> dict[str, Any] | None:
    return version if version["state"] in {"ready", "rejected"} else None
