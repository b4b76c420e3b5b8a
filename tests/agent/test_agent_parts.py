"""The agent's parts: the fence, the spool, downloads, retries."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from optimizer.errors import EngineFault, InputError
from parka_agent.client import Server, ServerRefused, ServerUnreachable
from parka_agent.files import fetch
from parka_agent.lifeline import Lifeline, RunUnderWay
from parka_agent.protocol import SELF_FENCE_S, File, Lease, Timings, agent_prefix, agent_queue, decode, encode
from parka_agent.reporting import deliver_left_over
from parka_agent.state import Home, Identity

CLOSED_PORT = "http://127.0.0.1:9"


class FakeClock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Answers(BaseHTTPRequestHandler):
    """Serves what the test has queued: (status, body) pairs; the last one stays."""

    queue: list[tuple[int, bytes]]
    seen: list[str]

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append(f"{self.command} {self.path}")
        status, body = self.queue.pop(0) if len(self.queue) > 1 else self.queue[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def answers() -> Iterator[tuple[type[Answers], Server]]:
    kind = type("Own", (Answers,), {"queue": [(200, b"{}")], "seen": []})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    server = Server(f"http://127.0.0.1:{httpd.server_address[1]}", token="pka_test")
    yield kind, server
    server.close()
    httpd.shutdown()
    httpd.server_close()


def problem(code: str) -> bytes:
    return json.dumps({"code": code, "detail": "why"}).encode()


def run_under_way() -> RunUnderWay:
    lease = Lease(run="run_x", attempt=1, lease_s=75, heartbeat_s=15, spec={}, card={}, budget_left_s=60, manifest=[])
    return RunUnderWay(lease=lease, claim_id="c" * 32)


def test_without_the_servers_consent_the_run_is_lost_before_the_lease_ends() -> None:
    clock = FakeClock()
    lifeline = Lifeline(Server(CLOSED_PORT), incarnation="i" * 16, timings=Timings(), clock=clock)
    run = run_under_way()
    lifeline.hold(run)
    clock.now += SELF_FENCE_S - 1
    lifeline.beat()
    lifeline.fence()
    assert not run.must_stop
    clock.now += 2
    lifeline.fence()
    assert run.lost.is_set()


def test_the_fence_counts_from_when_the_claim_was_sent() -> None:
    clock = FakeClock()
    lifeline = Lifeline(Server(CLOSED_PORT), incarnation="i" * 16, timings=Timings(), clock=clock)
    run = run_under_way()
    asked_at = lifeline.now_s()
    clock.now += 50
    lifeline.hold(run, since_s=asked_at)
    clock.now += 16
    lifeline.fence()
    assert run.lost.is_set()


def test_an_accepted_heartbeat_moves_the_fence_and_its_directive_is_obeyed(answers: tuple[type[Answers], Server]) -> None:
    kind, server = answers
    clock, run = FakeClock(), run_under_way()
    lifeline = Lifeline(server, incarnation="i" * 16, timings=Timings(), clock=clock)
    lifeline.hold(run)
    for directive in ("continue", "cancel"):
        state = {"run": "run_x", "attempt": 1, "directive": directive}
        kind.queue = [(200, json.dumps({"lease_s": 75, "agent": "continue", "leases": [state]}).encode())]
        clock.now += 40
        lifeline.beat()
        lifeline.fence()
        assert not run.lost.is_set()
    assert run.cancelled.is_set()


@pytest.mark.parametrize("code", ["agent.token_invalid", "agent.superseded"])
def test_a_process_that_is_no_longer_wanted_stops_and_drops_its_run(answers: tuple[type[Answers], Server], code: str) -> None:
    kind, server = answers
    kind.queue = [(409, problem(code))]
    lifeline, run = Lifeline(server, incarnation="i" * 16, timings=Timings()), run_under_way()
    lifeline.hold(run)
    lifeline.beat()
    assert lifeline.stopping.is_set()
    assert run.lost.is_set()


def test_calls_are_repeated_while_the_server_is_busy(answers: tuple[type[Answers], Server]) -> None:
    kind, server = answers
    kind.queue = [(503, problem("server.busy")), (200, b"{}")]
    assert server.send("POST", "heartbeat", patience_s=10).status_code == 200
    assert len(kind.seen) == 2


def test_a_refusal_is_not_repeated_and_keeps_its_code(answers: tuple[type[Answers], Server]) -> None:
    kind, server = answers
    kind.queue = [(409, problem("lease.stale"))]
    with pytest.raises(ServerRefused) as refusal:
        server.send("POST", "x", patience_s=10)
    assert (refusal.value.code, refusal.value.status, len(kind.seen)) == ("lease.stale", 409, 1)


def test_patience_ends_and_giving_up_ends_it_at_once() -> None:
    given_up = threading.Event()
    given_up.set()
    for patience_s, give_up in ((0.0, None), (60.0, given_up)):
        with pytest.raises(ServerUnreachable):
            Server(CLOSED_PORT).send("GET", "x", patience_s=patience_s, give_up=give_up)


def test_the_spool_keeps_reports_in_order_and_across_processes(tmp_path: Path) -> None:
    home = Home(folder=tmp_path)
    home.make()
    for number in range(12):
        home.spool_report("PUT", f"path/{number}", b"{}")
    assert [report.path for report in Home(folder=tmp_path).spooled()] == [f"path/{number}" for number in range(12)]


def test_left_over_reports_are_sent_oldest_first_and_refused_ones_forgotten(tmp_path: Path, answers: tuple[type[Answers], Server]) -> None:
    kind, server = answers
    home = Home(folder=tmp_path)
    home.make()
    for number in range(3):
        home.spool_report("PUT", f"path/{number}", b"{}")
    kind.queue = [(200, b"{}"), (409, problem("lease.stale")), (200, b"{}")]
    deliver_left_over(server, home, patience_s=0)
    assert [call.rsplit("/", 1)[-1] for call in kind.seen] == ["0", "1", "2"]
    assert list(home.spooled()) == []


def test_an_unreachable_server_leaves_the_spool_as_it_is(tmp_path: Path) -> None:
    home = Home(folder=tmp_path)
    home.make()
    home.spool_report("PUT", "path", b"{}")
    deliver_left_over(Server(CLOSED_PORT), home, patience_s=0)
    assert len(list(home.spooled())) == 1


def test_a_half_written_report_is_never_seen(tmp_path: Path) -> None:
    home = Home(folder=tmp_path)
    home.make()
    (home.spool / "00000001.draft").write_bytes(b'{"method"')
    assert list(home.spooled()) == []


def test_the_identity_is_private_and_survives(tmp_path: Path) -> None:
    home = Home(folder=tmp_path)
    home.make()
    with pytest.raises(InputError) as refusal:
        home.identity()
    assert refusal.value.code == "agent.not_registered"
    identity = Identity(server="http://x", agent_id="agent_1", agent_token="pka_secret")
    home.keep(identity)
    assert home.identity() == identity
    assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0


def test_a_home_serves_one_process_at_a_time(tmp_path: Path) -> None:
    home = Home(folder=tmp_path)
    home.make()
    with home.only_one(), pytest.raises(InputError) as refusal, home.only_one():
        pass
    assert refusal.value.code == "agent.running"
    with home.only_one():
        pass


def test_a_download_is_checked_cached_and_not_fetched_again(tmp_path: Path, answers: tuple[type[Answers], Server]) -> None:
    kind, server = answers
    content = b"model" * 1000
    kind.queue = [(200, content)]
    file = File(name="model", sha256=hashlib.sha256(content).hexdigest(), size=len(content), url="/blob")
    assert fetch(server, file, cache=tmp_path).read_bytes() == content
    assert fetch(server, file, cache=tmp_path).read_bytes() == content
    assert len(kind.seen) == 1


def test_a_download_with_other_bytes_is_refused_and_leaves_nothing(tmp_path: Path, answers: tuple[type[Answers], Server]) -> None:
    kind, server = answers
    kind.queue = [(200, b"tampered")]
    file = File(name="model", sha256="0" * 64, size=8, url="/blob")
    with pytest.raises(EngineFault) as refusal:
        fetch(server, file, cache=tmp_path)
    assert refusal.value.code == "download.mismatch"
    assert list(tmp_path.iterdir()) == []


def test_messages_refuse_nan_and_ignore_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="NaN"):
        decode(Timings, b'{"lease_s": NaN}')
    assert decode(Timings, b'{"lease_s": 30, "later": 1}').lease_s == 30
    assert encode(Timings()) == encode(decode(Timings, encode(Timings())))


def test_every_agent_has_its_own_queue_and_prefix() -> None:
    assert agent_queue("agent_1") == "agent.agent_1"
    assert agent_prefix("agent_1") == "agent:agent_1:"
