"""The self-test holds at every level here, sees broken recipes, and its answer is remembered."""

import json
import os
import subprocess
import sys

import pytest

from optimizer.errors import InputError
from optimizer.sandbox import Level, best_level, self_test
from optimizer.sandbox.landlock import abi
from optimizer.sandbox.levels import CACHE_NAME, is_installed, level_reports
from optimizer.sandbox.seccomp import (
    FORBIDDEN_CALLS,
    NAMESPACE_FLAGS,
    NETWORK_FAMILIES,
    SIGNAL_CALLS,
    calls_below_abi,
    families_below_abi,
    filter_program,
)

DEED = """
import os, socket, sys
from optimizer.sandbox import landlock, probes
landlock.no_new_privileges()
landlock.load_filter(sys.stdin.buffer.read())
deeds = {
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "unix": lambda: socket.socket(socket.AF_UNIX).close(),
    "namespace": probes._clone_namespace,
    "chroot": lambda: os.chroot("/"),
    "trace": lambda: probes._system("ptrace", 0, 0, None, None),
    "signal": lambda: os.kill(os.getppid(), 0),
}
os._exit(10 if probes._prevented(deeds[sys.argv[1]]) else 20)
"""
PREVENTED, DONE = 10, 20


def outcome_of(deed, program):
    return subprocess.run([sys.executable, "-c", DEED, deed], input=program, check=False, timeout=60).returncode


def test_every_probe_of_a_level_is_held(level, tmp_path):
    report = self_test(level, root=tmp_path)
    assert report.passed, report
    assert len(report.checks) >= (20 if level is not Level.C else 8)


@pytest.mark.parametrize("deed", ["netlink", "udp", "namespace", "chroot", "trace"])
def test_the_filter_prevents_what_its_rules_name(deed):
    assert outcome_of(deed, filter_program()) == PREVENTED


@pytest.mark.parametrize(
    ("deed", "mutant"),
    [
        ("netlink", {"families": tuple(family for family in NETWORK_FAMILIES if family != 16)}),
        ("udp", {"families": tuple(family for family in NETWORK_FAMILIES if family != 2)}),
        ("namespace", {"namespace_flags": ()}),
        ("trace", {"calls": tuple(name for name in FORBIDDEN_CALLS if name != "ptrace")}),
        ("chroot", {"calls": tuple(name for name in FORBIDDEN_CALLS if name != "chroot")}),
    ],
)
def test_without_its_rule_the_deed_goes_through(deed, mutant):
    if os.getuid() != 0 and deed == "chroot":
        pytest.skip("only root may chroot at all")
    assert outcome_of(deed, filter_program(**mutant)) == DONE


def test_below_landlock_abi_6_the_filter_also_stops_unix_sockets_and_signals():
    assert families_below_abi(6) == NETWORK_FAMILIES
    assert calls_below_abi(6) == FORBIDDEN_CALLS
    old = filter_program(families=families_below_abi(5), calls=calls_below_abi(5))
    assert {*SIGNAL_CALLS} <= {*calls_below_abi(5)}
    for deed in ("unix", "signal"):
        assert outcome_of(deed, old) == PREVENTED
        assert outcome_of(deed, filter_program()) == DONE


def test_one_rule_per_namespace_flag():
    assert (
        len({filter_program(namespace_flags=NAMESPACE_FLAGS[:count]) for count in range(len(NAMESPACE_FLAGS) + 1)})
        == len(NAMESPACE_FLAGS) + 1
    )


@pytest.mark.skipif(not is_installed(Level.B), reason="needs Landlock")
@pytest.mark.parametrize(
    ("extra", "broken"),
    [
        (("/etc", 1 << 2 | 1 << 3), "read_etc"),
        (("{secret}", 1 << 2), "read_state"),
        (("{package}", 1 << 1 | 1 << 8 | 1 << 14), "write_package"),
    ],
)
def test_one_landlock_rule_too_many_is_noticed(extra, broken, tmp_path):
    path, rights = extra
    secret = tmp_path / "secret"
    secret.write_text("token")
    from optimizer.sandbox.layout import PACKAGE

    where = path.format(secret=secret, package=PACKAGE)
    code = f"""
import os, sys
from pathlib import Path
from optimizer.sandbox import landlock, recipe_b, probes
landlock.no_new_privileges()
rules = recipe_b.rules({{}}, out=Path({str(tmp_path / "out")!r}), scratch=Path({str(tmp_path / "scratch")!r}))
landlock.restrict([*rules, ({where!r}, {rights})] if sys.argv[1] == "broken" else rules)
deeds = {{
    "read_etc": lambda: Path("/etc/passwd").read_bytes(),
    "read_state": lambda: Path({str(secret)!r}).read_bytes(),
    "write_package": lambda: (Path({str(PACKAGE)!r}) / "__init__.py").open("r+b").close(),
}}
os._exit(10 if probes._prevented(deeds[{broken!r}]) else 20)
"""
    run = [subprocess.run([sys.executable, "-c", code, kind], check=False, timeout=60).returncode for kind in ("whole", "broken")]
    assert run == [PREVENTED, DONE]


def test_the_best_level_is_tested_once_and_remembered(tmp_path):
    level = best_level(tmp_path)
    stored = json.loads((tmp_path / CACHE_NAME).read_text())
    assert stored["reports"][-1]["level"] == level
    stored["reports"] = [{"level": "C", "checks": {"made_up": True}, "reason": ""}]
    (tmp_path / CACHE_NAME).write_text(json.dumps(stored))
    assert best_level(tmp_path) is Level.C


@pytest.mark.parametrize("spoiled", ["null", '{"key": "of another boot", "tested_at": 0, "reports": []}'])
def test_a_spoiled_or_foreign_memory_is_not_believed(tmp_path, spoiled, monkeypatch):
    monkeypatch.setenv("PARKA_SANDBOX_LEVEL", "C")
    (tmp_path / CACHE_NAME).write_text(spoiled)
    assert level_reports(tmp_path)[-1].checks["environment"]


def test_a_second_folder_in_the_same_process_is_not_tested_again(tmp_path):
    first = level_reports(tmp_path / "one")
    assert level_reports(tmp_path / "two") is first


def test_the_environment_can_lower_the_level_but_not_misname_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PARKA_SANDBOX_LEVEL", "c")
    assert best_level(tmp_path) is Level.C
    monkeypatch.setenv("PARKA_SANDBOX_LEVEL", "Z")
    with pytest.raises(InputError) as refusal:
        best_level(tmp_path)
    assert refusal.value.code == "sandbox.level"


def test_landlock_says_its_version():
    assert (abi() >= 3) == is_installed(Level.B)
