"""Only the host's own signals invalidate a block, and what cannot be read never does."""

import pytest

from optimizer.measure.control_job import ControlJob
from optimizer.measure.environment import differences as fingerprint_differences
from optimizer.measure.host_signals import HostCounters, cpu_seconds, pressure_us, read_counters, throttled_seconds
from optimizer.measure.telemetry import THRESHOLDS, Telemetry, differences, judge_block


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda threshold: threshold.signal)
def test_each_signal_warns_above_one_limit_and_invalidates_above_the_other(threshold):
    name = threshold.signal
    assert judge_block({name: threshold.warn}).warnings == ()
    assert judge_block({name: threshold.warn + 1e-6}).warnings != ()
    assert judge_block({name: threshold.warn + 1e-6}).valid
    if threshold.invalidate is not None:
        assert not judge_block({name: threshold.invalidate + 1e-6}).valid
    else:
        assert judge_block({name: 1e9}).valid


def test_an_unavailable_signal_is_named_and_never_invalidates():
    block = judge_block({threshold.signal: None for threshold in THRESHOLDS})
    assert block.valid
    assert set(block.unavailable) == {threshold.signal for threshold in THRESHOLDS}
    assert block.signals == {}


def test_other_cpu_is_what_the_host_spent_beyond_our_own_processes():
    begin = HostCounters(busy_s=10.0, own_s=4.0, steal_s=0.0)
    end = HostCounters(busy_s=14.0, own_s=7.0, steal_s=0.1)
    rates = differences(begin, end, elapsed_s=2.0, cores=2)
    assert rates["other_cpu_cores"] == pytest.approx(0.5)
    assert rates["steal_fraction"] == pytest.approx(0.025)
    assert rates["throttled_fraction"] is None


def test_the_hosts_cpu_counters_are_unusable_in_a_smaller_container(tmp_path):
    (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 8 9 10\n" + "".join(f"cpu{n} 1 1 1 1 1 1 1 1 1 1\n" for n in range(640)))
    assert cpu_seconds(tmp_path) == (None, None)


def test_pressure_and_throttling_are_read_in_both_cgroup_versions(tmp_path):
    (tmp_path / "cpu_pressure").write_text("some avg10=1.00 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0 total=1\n")
    assert pressure_us(tmp_path / "cpu_pressure") == 1234
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.stat").write_text("nr_periods 1\nthrottled_time 2000000000\n")
    assert throttled_seconds(tmp_path) == 2.0
    (tmp_path / "cpu.stat").write_text("usage_usec 1\nthrottled_usec 500000\n")
    assert throttled_seconds(tmp_path) == 0.5


def test_a_slow_control_job_shows_as_deviation_from_the_runs_median():
    job = ControlJob()
    job.history_ns = [100, 100, 100]
    assert job.deviation(120) == pytest.approx(0.2)
    assert job.probe() > 0
    assert len(job.history_ns) == 4


class Scripted(ControlJob):
    """A control job that takes as long as it is told."""

    def __init__(self, durations_ns: list[int]) -> None:
        super().__init__()
        self.history_ns = [100] * 20
        self.ahead_ns = durations_ns

    def probe(self) -> int:
        self.history_ns.append(self.ahead_ns.pop(0))
        return self.history_ns[-1]


def test_a_block_waits_for_a_short_disturbance_to_pass():
    job = Scripted([150, 140, 101, 100])
    telemetry = Telemetry(job)
    telemetry.start()
    assert job.ahead_ns == [100]
    assert telemetry.stop().signals["control_job_deviation"] == pytest.approx(0.01)


def test_a_lasting_disturbance_is_not_waited_for_and_invalidates_the_block():
    job = Scripted([150] * 7)
    telemetry = Telemetry(job)
    telemetry.start()
    assert not telemetry.stop().valid


def test_a_real_block_yields_finite_signals():
    telemetry = Telemetry()
    telemetry.start()
    block = telemetry.stop()
    assert all(value >= 0 for value in block.signals.values())
    assert read_counters().own_s is not None


def test_two_fingerprints_name_what_differs():
    assert fingerprint_differences({"kernel": "1", "cores": 2}, {"kernel": "2", "cores": 2, "governor": "x"}) == ("governor", "kernel")
