"""Interactive children: questions and answers, pauses, sudden death, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optimizer.sandbox import ChildDied, ChildJob, Limits
from optimizer.sandbox.self_testing import VICTIM_SCRIPT, falls_silent


def interactive(**limits):
    return ChildJob(entry="optimizer.sandbox.probes:echo", params={"interactive": True}, limits=Limits(**limits))


def until(condition, *, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def states(pids):
    return {Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in pids}


def test_a_session_answers_until_it_is_closed(sandbox):
    session = sandbox.open(interactive())
    assert session.ready["pid"] > 0
    assert session.request({"question": 1}, timeout_s=10) == {"question": 1}
    assert session.request({"question": 2}, timeout_s=10) == {"question": 2}
    outcome = session.close()
    assert outcome.ok
    assert outcome.result == {"params": {"interactive": True}}
    assert session.close() == outcome


def test_several_sessions_live_side_by_side(sandbox):
    sessions = [sandbox.open(interactive()) for _ in range(3)]
    assert [session.request({"n": n}, timeout_s=10)["n"] for n, session in enumerate(sessions)] == [0, 1, 2]
    assert all(session.close().ok for session in sessions)


def test_a_paused_session_stands_still_and_goes_on(sandbox):
    session = sandbox.open(interactive())
    session.pause()
    assert until(lambda: states(session.pids()) == {"T"})
    session.resume()
    assert session.request({"n": 1}, timeout_s=10) == {"n": 1}
    session.close()


def test_a_paused_session_can_be_closed(sandbox):
    session = sandbox.open(interactive())
    session.pause()
    assert session.close().ok


def test_a_killed_child_is_a_stray_crash_and_the_session_says_so(sandbox):
    session = sandbox.open(interactive())
    os.kill(session.pids()[-1], signal.SIGKILL)
    with pytest.raises(ChildDied) as death:
        session.request({"n": 1}, timeout_s=10)
    assert (death.value.failure.code, death.value.failure.stray) == ("child.crash", True)
    assert session.close().failure == death.value.failure


def test_a_child_that_keeps_silent_is_ended(sandbox):
    session = sandbox.open(interactive())
    os.kill(session.pids()[-1], signal.SIGSTOP)
    with pytest.raises(ChildDied) as death:
        session.request({"n": 1}, timeout_s=0.5)
    assert death.value.failure.code == "child.timeout"
    assert session.pids() == []


def test_a_child_that_is_not_ready_in_time_is_ended_however_long_it_might_live(sandbox):
    with pytest.raises(ChildDied) as death:
        sandbox.open(ChildJob(entry="optimizer.sandbox.probes:endless_loop", limits=Limits(wall_s=60)), ready_s=0.5)
    assert death.value.failure.code == "child.timeout"
    assert "within 0.5 s" in death.value.failure.detail


def test_a_failure_while_opening_is_told(sandbox):
    with pytest.raises(ChildDied) as death:
        sandbox.open(ChildJob(entry="optimizer.sandbox.probes:refuse", params={"code": "backend.unsupported"}))
    assert death.value.failure.code == "backend.unsupported"


def test_closing_the_sandbox_ends_its_children(sandbox):
    session = sandbox.open(interactive())
    pids = session.pids()
    assert pids
    sandbox.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(ChildDied):
        session.request({"n": 1}, timeout_s=5)
    assert sandbox.run(ChildJob(entry="optimizer.sandbox.probes:echo")).ok


def test_a_grandchild_in_its_own_session_dies_with_the_child(sandbox):
    outcome = sandbox.run(ChildJob(entry="optimizer.sandbox.probes:daemon", params={"stay": False}))
    assert outcome.ok
    assert falls_silent(outcome.out_dir / "beats")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nobody_survives_the_supervisor(level, tmp_path, number):
    with subprocess.Popen(
        [sys.executable, "-I", str(VICTIM_SCRIPT), str(level), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as victim:
        beats = Path(victim.stdout.readline().strip()) / "beats"
        victim.send_signal(number)
    assert falls_silent(beats)
    assert until(lambda: not processes_mentioning(str(tmp_path)))


def processes_mentioning(text):
    found = []
    for pid in (path.name for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            folder = str(Path(f"/proc/{pid}/cwd").readlink())
        except OSError:
            continue
        if text.encode() in command or folder.startswith(text):
            found.append(pid)
    return found


def test_a_dead_spawner_is_replaced(sandbox):
    session = sandbox.open(interactive())
    spawner = int(Path(f"/proc/{guardian_of(session)}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(spawner, signal.SIGKILL)
    assert until(lambda: session.pids() == [])
    with pytest.raises(ChildDied):
        session.request({"n": 1}, timeout_s=5)
    assert sandbox.run(ChildJob(entry="optimizer.sandbox.probes:echo")).ok


def test_a_killed_guardian_leaves_no_grandchild(sandbox):
    session = sandbox.open(ChildJob(entry="optimizer.sandbox.probes:daemon"))
    os.kill(guardian_of(session), signal.SIGKILL)
    assert falls_silent(session.out_dir / "beats")
    assert session.close().failure.stray


def guardian_of(session):
    return int(Path(f"/proc/{session.pids()[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
