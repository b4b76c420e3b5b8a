"""HTTP to the server: bounded, retried with full jitter, refusals as values with stable codes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from optimizer.errors import EngineFault
from parka_agent.protocol import BASE_PATH, PROTOCOL_VERSION, VERSION_HEADER, Message, Problem, encode

RETRY_BASE_S = 1.0
RETRY_CAP_S = 30.0
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
TRANSIENT = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT}


class ServerRefused(EngineFault):
    """The server answered with an error; ``status`` is HTTP's."""

    def __init__(self, status: int, code: str, message: str, *, offset: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status
        self.offset = offset


class ServerUnreachable(EngineFault):
    """No answer within the time that was left."""

    def __init__(self, message: str) -> None:
        super().__init__("server.unreachable", message)


class Server:
    """Calls of one agent. Safe for use from several threads."""

    def __init__(self, url: str, *, token: str = "") -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=TIMEOUT, trust_env=not _is_loopback(self.url))
        self.use(token)

    def use(self, token: str) -> None:
        """Speak with this token from now on."""
        self._headers = {VERSION_HEADER: str(PROTOCOL_VERSION), **({"Authorization": f"Bearer {token}"} if token else {})}

    def post(self, path: str, message: Message, *, patience_s: float = 0.0, give_up: threading.Event | None = None) -> httpx.Response:
        """POST a message below the agent's base path."""
        return self.send("POST", path, body=encode(message), patience_s=patience_s, give_up=give_up)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        patience_s: float = 0.0,
        give_up: threading.Event | None = None,
    ) -> httpx.Response:
        """One call, repeated while the server is away or busy, at most for ``patience_s``.

        Raises ServerRefused for any other error, ServerUnreachable when patience ends or ``give_up`` is set.
        """
        merged = {**self._headers, "Content-Type": "application/json", **(headers or {})}
        address = path if path.startswith("/") else BASE_PATH + path
        return retried(lambda: self._http.request(method, address, content=body, headers=merged), patience_s=patience_s, give_up=give_up)

    @contextmanager
    def download(self, address: str) -> Iterator[httpx.Response]:
        """Stream a signed address. Raises ServerRefused."""
        with self._http.stream("GET", address) as response:
            if response.is_error:
                response.read()
                raise refusal(response)
            yield response

    def close(self) -> None:
        self._http.close()


def retried(call: Callable[[], httpx.Response], *, patience_s: float, give_up: threading.Event | None) -> httpx.Response:
    """Full jitter, base 1 s, cap 30 s."""
    until, tries = time.monotonic() + patience_s, 0
    while True:
        try:
            response = call()
            if not response.is_error:
                return response
            error: EngineFault = refusal(response)
            if response.status_code not in TRANSIENT:
                raise error
        except httpx.HTTPError as cause:
            error = ServerUnreachable(f"{type(cause).__name__}: {cause}")
        pause = random.uniform(0, min(RETRY_CAP_S, RETRY_BASE_S * 2**tries))  # noqa: S311 - jitter, not a secret
        tries += 1
        if time.monotonic() + pause > until or not wait(pause, give_up):
            raise error


def wait(pause_s: float, give_up: threading.Event | None) -> bool:
    """Sleep; False as soon as ``give_up`` is set."""
    if give_up is None:
        time.sleep(pause_s)
        return True
    return not give_up.wait(pause_s)


def refusal(response: httpx.Response) -> ServerRefused:
    """The problem document as an error."""
    try:
        content: Any = response.json()
        problem = Problem.model_validate(content)
    except ValueError:
        problem = Problem(code="server.error", detail=response.text[:300])
    offset = response.headers.get("Parka-Offset") or response.headers.get("Upload-Offset")
    return ServerRefused(response.status_code, problem.code or "server.error", problem.detail, offset=int(offset) if offset else None)


def _is_loopback(url: str) -> bool:
    return httpx.URL(url).host in {"127.0.0.1", "localhost", "::1"}
