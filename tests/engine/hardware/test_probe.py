"""The host is described by what it shows, within its quota."""

import platform

import pytest

from optimizer.hardware.bandwidth import triad_bytes
from optimizer.hardware.cores import quota_v1, quota_v2
from optimizer.hardware.cpu import cache_sizes, read_cpu
from optimizer.hardware.power import power_tier


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_quota_of_cgroup_v2_counts_cores(tmp_path):
    write(tmp_path / "cpu.max", "150000 100000\n")
    assert quota_v2(tmp_path) == 1.5


@pytest.mark.parametrize("text", ["max 100000\n", ""])
def test_no_quota_of_cgroup_v2_limits_nothing(tmp_path, text):
    write(tmp_path / "cpu.max", text)
    assert quota_v2(tmp_path) is None


def test_the_quota_of_cgroup_v1_counts_cores_and_minus_one_means_none(tmp_path):
    write(tmp_path / "cpu" / "cpu.cfs_quota_us", "200000")
    write(tmp_path / "cpu" / "cpu.cfs_period_us", "100000")
    assert quota_v1(tmp_path) == 2
    write(tmp_path / "cpu" / "cpu.cfs_quota_us", "-1")
    assert quota_v1(tmp_path) is None


def test_instruction_sets_sockets_and_hypervisor_are_read_from_cpuinfo(tmp_path):
    block = "processor : {n}\nmodel name : A CPU\nmicrocode : 0x1\nphysical id : {n}\nflags : avx2 avx512_vnni amx_bf16 hypervisor other\n"
    write(tmp_path / "cpuinfo", "\n".join(block.format(n=n) for n in range(2)))
    cpu = read_cpu(cpuinfo=tmp_path / "cpuinfo", system=tmp_path)
    assert (cpu.model, cpu.microcode, cpu.sockets, cpu.virtualization) == ("A CPU", "0x1", 2, "vm")
    assert cpu.instruction_sets == ("avx2", "avx512_vnni", "amx_bf16")


def test_a_host_without_cpuinfo_still_has_a_name(tmp_path):
    assert read_cpu(cpuinfo=tmp_path / "none", system=tmp_path).model in {platform.processor(), platform.machine()}


def test_cache_sizes_carry_level_and_kind(tmp_path):
    for index, (level, kind, size) in enumerate([("1", "Data", "48K"), ("3", "Unified", "260M")]):
        for name, text in (("level", level), ("type", kind), ("size", size)):
            write(tmp_path / f"index{index}" / name, text)
    assert cache_sizes(tmp_path) == {"L1d": 48 * 2**10, "L3": 260 * 2**20}


def test_a_readable_energy_counter_raises_the_power_tier(tmp_path):
    assert power_tier(powercap=tmp_path) == "D"
    write(tmp_path / "intel-rapl:0" / "energy_uj", "1")
    assert power_tier(powercap=tmp_path) == "C1"


def test_triad_arrays_exceed_the_cache_but_not_a_share_of_memory():
    assert triad_bytes(last_level_cache_bytes=32 * 2**20, memory_bytes=64 * 2**30) == 128 * 2**20
    assert triad_bytes(last_level_cache_bytes=2**40, memory_bytes=2**30) == 2**26
