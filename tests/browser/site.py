"""The dashboard on loopback: the real ASGI server with static files as deployed, over a database seeded for looking at."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.sync_api import Page

from tests.ports import own_port

PASSWORD = "correct horse battery"
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """A running server. Team ``acme``: R-1 finished with a winner, R-2 running, R-3 failed, R-4 queued, R-5 kept the original."""

    url: str

    def at(self, path: str = "") -> str:
        """Address of a page of the team."""
        return f"{self.url}/t/acme/{path}"

    def sign_in(self, page: Page, email: str) -> None:
        page.goto(f"{self.url}/accounts/login/")
        page.get_by_label("Email").fill(email)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/t/**")


@contextmanager
def served(home: Path) -> Iterator[Site]:
    """A server on a free port, ended with the block; its Valkey is the session's."""
    port = own_port()
    environment = {
        **os.environ,
        "PARKA_HOME": str(home),
        "DATABASE_URL": f"sqlite:///{home / 'site.sqlite3'}",
        "PARKA_EMBEDDED": "1",
        "PARKA_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "DJANGO_SETTINGS_MODULE": "parka.settings",
        "PYTHONPATH": str(ROOT),
    }
    for command in (["manage.py", "migrate", "-v0"], ["manage.py", "collectstatic", "--noinput", "-v0"], ["-m", "tests.browser.seed"]):
        subprocess.run([sys.executable, *command], env=environment, cwd=ROOT, check=True, timeout=300)
    with (home / "web.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "parka.asgi:application", "--port", str(port), "--timeout-graceful-shutdown", "1"],
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/healthz", server, home / "web.log")
            yield Site(url=f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(timeout=20)


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers. Raises AssertionError with the end of its log."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(address, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"the server did not come up:\n{log.read_text()[-3000:]}")
