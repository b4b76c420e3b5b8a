"""The one-machine form: processes are kept alive, nothing is left behind, refusals say what to do."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from parka.core.errors import Unavailable
from parka.embedded import bootstrap
from parka.embedded.layout import Layout, free_port
from parka.embedded.processes import Keeper, Program, StartFailed
from parka.embedded.valkey import Valkey

SLEEPER = [sys.executable, "-c", "import subprocess, time; subprocess.Popen(['sleep', '300']); time.sleep(300)"]


def program(tmp_path, command, **options):
    return Program(name="part", command=command, environment=dict(os.environ), log=tmp_path / "part.log", **options)


def until(condition, *, most_s=20):
    end = time.monotonic() + most_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_killed_program_is_started_again(tmp_path):
    keeper = Keeper(say=lambda text: None)
    keeper.start(program(tmp_path, SLEEPER))
    first = keeper.kept["part"].process.pid
    os.kill(first, signal.SIGKILL)

    def revived():
        keeper.tick()
        return keeper.kept["part"].process.pid != first and keeper.kept["part"].process.poll() is None

    until(revived)
    keeper.stop()


def test_stop_leaves_no_process_of_the_group_behind(tmp_path):
    keeper = Keeper(say=lambda text: None)
    keeper.start(program(tmp_path, SLEEPER))
    parent = psutil.Process(keeper.kept["part"].process.pid)
    until(parent.children)
    family = [parent, *parent.children(recursive=True)]
    keeper.stop()
    until(lambda: not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family))


def test_a_program_that_ends_before_it_is_ready_names_its_log(tmp_path):
    keeper = Keeper(say=lambda text: None)
    with pytest.raises(StartFailed, match=r"part\.log"):
        keeper.start(program(tmp_path, [sys.executable, "-c", "raise SystemExit(5)"], ready=lambda: False))
    keeper.stop()


def test_valkey_is_reached_only_with_its_password_on_a_private_socket(tmp_path):
    valkey = Valkey.configure()
    keeper = Keeper(say=lambda text: None)
    keeper.start(
        Program(name="valkey", command=valkey.command, environment=dict(os.environ), log=tmp_path / "valkey.log", ready=valkey.answers)
    )
    import redis

    assert valkey.folder.stat().st_mode & 0o077 == 0
    with pytest.raises(redis.AuthenticationError), redis.Redis(unix_socket_path=str(valkey.socket)) as stranger:
        stranger.ping()
    keeper.stop()
    valkey.remove()
    assert not valkey.folder.exists()


def test_a_second_platform_in_the_same_home_is_refused(tmp_path):
    layout = Layout(home=tmp_path)
    layout.make()
    with layout.only_one(), pytest.raises(Unavailable) as refusal, layout.only_one():
        pass
    assert refusal.value.code == "up.running"


def test_a_port_in_use_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port


def test_an_old_python_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 1))
    with pytest.raises(bootstrap.SetupError, match="PYTHON=python3"):
        bootstrap.check_python()


def test_too_little_disk_is_refused_before_anything_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "HOME", tmp_path)
    monkeypatch.setattr(bootstrap, "NEEDED_GIB", 10**9)
    with pytest.raises(bootstrap.SetupError, match="PARKA_HOME"):
        bootstrap.check_disk()


def test_torch_is_added_within_the_pins_of_the_lock_and_only_once(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(bootstrap, "HOME", tmp_path)
    monkeypatch.setattr(bootstrap, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(bootstrap, "pip", lambda *arguments: asked.append(arguments))
    bootstrap.stamp("dev").write_text(bootstrap.fingerprint("dev"))
    monkeypatch.setenv(bootstrap.TORCH_INDEX, "https://index.invalid/cpu")
    bootstrap.ready("torch")
    bootstrap.ready("torch")
    assert len(asked) == 1
    assert asked[0][:3] == ("install", "--constraint", str(tmp_path / "pins.txt"))
    assert "https://index.invalid/cpu" in asked[0]
    assert any(one.startswith("torch==") for one in asked[0])
    lock = (bootstrap.ROOT / "requirements-dev.lock").read_text()
    pins = (tmp_path / "pins.txt").read_text().splitlines()
    assert len(pins) == sum(line[0].isalnum() for line in lock.splitlines())
    assert all("==" in pin and "hash" not in pin and not pin.endswith("\\") for pin in pins)


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("web", "uvicorn parka.asgi:application"),
        ("worker", "celery -A parka worker -Q server.default"),
        ("beat", "celery -A parka beat"),
        ("agent", "parka-agent run --home"),
    ],
)
def test_the_container_entry_point_starts_the_program_of_each_role(tmp_path, role, expected):
    for name in ("uvicorn", "celery", "parka-agent"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["sh", "docker/entrypoint.sh", role], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(expected)


@pytest.mark.django_db
def test_the_probes_tell_alive_from_ready(client):
    assert client.get("/healthz").content == b"ok"
    assert client.get("/readyz").json() == {"database": True, "cache": True}
