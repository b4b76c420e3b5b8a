"""One-shot children: what goes in, what comes out, and every way to fail, at each level."""

import signal
import threading
import time

import pytest

from optimizer.errors import EngineFault, Side
from optimizer.sandbox import ChildJob, Level, Limits, Sandbox
from optimizer.units import MIB

TIGHT = Limits(wall_s=20, memory_bytes=256 * MIB, file_bytes=16 * MIB, out_bytes=64 * MIB, processes=48)


def probe(name, *, limits=TIGHT, **params):
    return ChildJob(entry=f"optimizer.sandbox.probes:{name}", params=params, limits=limits)


def test_memory_that_forked_processes_share_counts_once(sandbox):
    outcome = sandbox.run(probe("family", bytes=100 * MIB, children=8, seconds=1.5))
    assert outcome.failure is None
    assert outcome.usage.memory_peak_bytes < TIGHT.memory_bytes


def test_parameters_go_in_and_the_result_comes_out(sandbox):
    outcome = sandbox.run(probe("echo", text="ü", numbers=[1, 2.5, None]))
    assert outcome.ok
    assert outcome.result == {"params": {"text": "ü", "numbers": [1, 2.5, None]}}
    assert outcome.level is sandbox.level


def test_what_a_child_said_last_is_heard_too(sandbox):
    heard = []
    assert sandbox.run(probe("count", upto=40), heard=heard.append).ok
    assert [reply["number"] for reply in heard] == list(range(40))


def test_a_child_that_talks_as_fast_as_one_listens_does_not_go_on_unasked(sandbox):
    heard = []

    def slowly(reply):
        time.sleep(0.005)
        heard.append(reply)

    outcome = sandbox.run(probe("count", upto=600, pause_s=0.005), heard=slowly, cancelled=lambda: len(heard) > 20)
    assert outcome.failure.code in ("child.cancelled", "child.output_invalid")
    assert len(heard) < 300


def test_a_listener_that_fails_leaves_no_child_and_no_folder(sandbox):
    def failing(reply):
        raise LookupError(reply)

    before = {path.name for path in sandbox._root.iterdir()}
    with pytest.raises(LookupError):
        sandbox.run(probe("count", upto=1_000, pause_s=0.01), heard=failing)
    assert not sandbox._running
    assert {path.name for path in sandbox._root.iterdir()} <= before


def test_a_bind_can_be_read_and_the_output_folder_is_kept(sandbox, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    job = ChildJob(entry="optimizer.sandbox.probes:copy", binds={"input": tmp_path / "model.bin"})
    outcome = sandbox.run(job)
    assert (outcome.out_dir / "copy").read_bytes() == b"weights"
    assert (outcome.result["inside"] == "/in/input") == (sandbox.level is Level.A)
    assert [path.name for path in outcome.out_dir.parent.iterdir()] == ["out"]


def test_a_bind_that_does_not_exist_is_named(sandbox, tmp_path):
    outcome = sandbox.run(ChildJob(entry="optimizer.sandbox.probes:copy", binds={"input": tmp_path / "absent"}))
    assert outcome.failure.code == "child.no_bind"
    assert "absent" in outcome.failure.detail


def test_only_functions_of_the_engine_run(sandbox):
    assert sandbox.run(ChildJob(entry="os:getcwd")).failure.code == "child.entry"


def test_usage_is_counted_from_outside(sandbox):
    outcome = sandbox.run(probe("echo"))
    assert outcome.usage.wall_s > 0
    assert outcome.usage.cpu_s > 0
    assert outcome.usage.memory_peak_bytes > 4 * MIB


def test_the_environment_holds_nothing_of_ours_and_silences_telemetry(sandbox, monkeypatch):
    monkeypatch.setenv("PARKA_SECRET", "s3cret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    variables = sandbox.run(probe("environment")).result["values"]
    assert "s3cret" not in str(variables)
    assert "OMP_NUM_THREADS" not in variables
    assert variables["ORT_DISABLE_TELEMETRY"] == "1"
    assert variables["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"


def test_a_child_holds_no_descriptor_but_its_own(sandbox):
    assert sandbox.run(probe("descriptors")).result["open"] == [0, 1, 2, 3]


def test_an_error_of_the_task_keeps_its_code_and_side(sandbox):
    failure = sandbox.run(probe("refuse", code="onnx.limit")).failure
    assert (failure.code, failure.side, failure.stray) == ("onnx.limit", Side.USER, False)
    assert "send another one" in failure.detail


def test_a_failed_allocation_behind_another_error_is_still_a_memory_failure(sandbox):
    assert sandbox.run(probe("refuse_for_memory")).failure.code == "child.oom"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("memory_bomb", "child.oom"),
        ("shared_memory_bomb", "child.oom"),
        ("file_bomb", "child.disk"),
        ("folder_bomb", "child.disk"),
        ("fork_bomb", "child.crash"),
    ],
)
def test_a_bomb_stops_at_its_limit_and_the_next_child_runs(sandbox, name, code):
    failure = sandbox.run(probe(name)).failure
    assert (failure.code, failure.stray) == (code, False)
    assert sandbox.run(probe("echo")).ok


def test_an_endless_loop_ends_with_its_wall_time(sandbox):
    outcome = sandbox.run(probe("endless_loop", limits=Limits(wall_s=1)))
    assert (outcome.failure.code, outcome.failure.stray) == ("child.timeout", False)
    assert 1 <= outcome.usage.wall_s < 11


def test_an_endless_loop_ends_with_its_processor_time(sandbox):
    outcome = sandbox.run(probe("endless_loop", limits=Limits(wall_s=60, cpu_s=1)))
    assert (outcome.failure.code, outcome.failure.stray) == ("child.timeout", False)
    assert "processor time" in outcome.failure.detail


def test_a_gigabyte_of_output_is_drained_and_cut(sandbox):
    outcome = sandbox.run(probe("chatter", bytes=1 << 30, limits=Limits(log_bytes=MIB)))
    assert outcome.ok
    assert len(outcome.log) < MIB + 100
    assert outcome.log.startswith("ooo")
    assert outcome.log.endswith("the end")
    assert "bytes left out" in outcome.log


@pytest.mark.parametrize(
    ("number", "stray"), [(signal.SIGKILL, True), (signal.SIGTERM, True), (signal.SIGSEGV, False), (signal.SIGABRT, False)]
)
def test_a_signal_from_nowhere_is_stray_and_a_fault_of_its_own_is_not(sandbox, number, stray):
    failure = sandbox.run(probe("crash", signal=int(number))).failure
    assert (failure.code, failure.stray) == ("child.crash", stray)
    assert number.name in failure.detail


def test_a_silent_exit_is_a_crash(sandbox):
    failure = sandbox.run(probe("crash", exit=3)).failure
    assert (failure.code, failure.stray) == ("child.crash", False)


@pytest.mark.parametrize(
    "raw",
    [
        '{"result": {"value": NaN}}',
        '{"result": {"value": -Infinity}}',
        "not json",
        "[1]",
        '{"result": [1]}',
        '{"result": {}, "reply": {}}',
        "[" * 100_000,
    ],
)
def test_an_answer_that_is_not_plain_json_is_refused(sandbox, raw):
    assert sandbox.run(probe("answer", raw=raw)).failure.code == "child.output_invalid"


def test_an_answer_above_one_mebibyte_is_refused(sandbox):
    assert sandbox.run(probe("answer", raw="x" * 1024, times=1100)).failure.code == "child.output_invalid"
    assert sandbox.run(probe("echo", text="x" * (MIB + 1))).failure.code == "child.output_invalid"


def test_a_nan_in_the_result_is_refused_by_the_child_itself(sandbox):
    failure = sandbox.run(probe("nan")).failure
    assert failure.code == "child.output_invalid"
    assert "NaN" in failure.detail


def test_cancelling_ends_the_child(sandbox):
    asked = threading.Event()
    threading.Timer(0.5, asked.set).start()
    outcome = sandbox.run(probe("endless_loop"), cancelled=asked.is_set)
    assert outcome.failure.code == "child.cancelled"


def test_a_weaker_level_than_required_is_refused(tmp_path):
    with pytest.raises(EngineFault) as refusal:
        Sandbox(root=tmp_path, level=Level.C, min_level=Level.B)
    assert refusal.value.code == "agent.sandbox_too_weak"
