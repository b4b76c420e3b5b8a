"""What a deployment rests on: containers, secrets from files, logs without secrets."""

from pathlib import Path

import pytest
import yaml

from parka import env
from parka.settings import broker_url, database
from parka_agent.logs import scrub

ROOT = Path(__file__).resolve().parents[2]


def test_every_service_of_the_composition_takes_its_secrets_from_files():
    composition = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    for name in ("web", "worker", "beat", "migrate"):
        environment = composition["services"][name]["environment"]
        assert not [key for key in environment if key in {"SECRET_KEY", "DATABASE_URL", "URL_SIGNING_KEY"}]
        assert environment["SECRET_KEY_FILE"].startswith("/run/secrets/")
    assert {"secret_key", "database_url"} <= set(composition["secrets"])


def test_the_image_installs_the_lock_with_hashes_and_runs_without_root():
    lines = (ROOT / "docker" / "Dockerfile").read_text()
    assert "--require-hashes -r requirements.lock" in lines
    assert "\nUSER parka\n" in lines


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_pins_with_hashes_and_needs_no_torch(lock):
    pins = [line for line in (ROOT / lock).read_text().splitlines() if line and not line[0].isspace()]
    assert pins
    assert all("==" in pin for pin in pins)
    assert not [pin for pin in pins if pin.startswith(("torch", "nvidia"))]
    assert (ROOT / lock).read_text().count("--hash=sha256:") >= len(pins)


def test_a_secret_may_come_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "key").write_text("from a file\n")
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("SOME_KEY", "from the environment")
    assert env.read("SOME_KEY") == "from a file"


def test_database_urls_of_both_kinds_are_understood():
    assert database("sqlite:////srv/parka/db.sqlite3")["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    remote = database("postgresql://parka:p%40ss@db:5432/parka")
    assert (remote["HOST"], remote["PORT"], remote["PASSWORD"], remote["NAME"]) == ("db", 5432, "p@ss", "parka")
    assert database("postgresql://postgres@/postgres?host=/run/pg")["HOST"] == "/run/pg"


def test_the_broker_address_of_a_socket_is_spelled_for_kombu():
    assert broker_url("unix://default:pw@/tmp/v.sock?db=2") == "redis+socket://default:pw@/tmp/v.sock?virtual_host=2"
    assert broker_url("redis://host:6379/0") == "redis://host:6379/0"


def test_tokens_are_cut_out_of_log_lines():
    event = scrub(None, "info", {"event": "sent pka_abcdefghij0123456789 away", "n": 3})
    assert event == {"event": "sent pka_… away", "n": 3}


def test_passwords_are_kept_with_argon2():
    from parka import settings

    assert settings.PASSWORD_HASHERS == ["django.contrib.auth.hashers.Argon2PasswordHasher"]
