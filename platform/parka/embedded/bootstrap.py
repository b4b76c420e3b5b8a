"""Make the environment from the lock, with the standard library alone: ``python3 bootstrap.py [run|dev|torch]``.

Says before it starts what it will fetch, how much disk it needs and roughly how long; does nothing when all is in place.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HOME = Path(os.environ.get("PARKA_HOME") or ROOT / ".parka")
ENVIRONMENT = HOME / "venv"
LOG = HOME / "logs" / "setup.log"
OLDEST_PYTHON = (3, 11)
NEEDED_GIB = 3
LOCKS = {"run": "requirements.lock", "dev": "requirements-dev.lock", "torch": "requirements-dev.lock"}
COSTS = {
    "run": "about 0.5 GB to download, 1.5 GB on disk, 1 to 5 minutes",
    "dev": "about 0.7 GB to download, 2.2 GB on disk, 2 to 7 minutes",
    "torch": "0.3 GB to download with PyTorch's CPU build (several GB with CUDA), 1.5 GB on disk or more, 1 to 10 minutes",
}
PIN = re.compile(r"^[A-Za-z0-9._\[\]-]+==[^\\]+", re.MULTILINE)
TORCH_INDEX = "PARKA_TORCH_INDEX"
"""Variable that names a further package index, such as PyTorch's own of builds for the CPU alone."""
LINES_SHOWN = 15


def main() -> int:
    """0 when the environment is ready, 3 when it could not be made."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "run"
    try:
        ready(kind)
    except SetupError as error:
        print(f"parka setup: {error}", file=sys.stderr)
        return 3
    return 0


class SetupError(Exception):
    """The environment cannot be made; the text says what to do."""


def ready(kind: str) -> None:
    """Bring the environment up to the lock of that kind; a larger one already in place is enough."""
    if kind == "torch":
        add_torch()
        return
    if any(stamp(have).is_file() and stamp(have).read_text() == fingerprint(have) for have in {kind, "dev"}):
        return
    check_python()
    HOME.mkdir(parents=True, exist_ok=True, mode=0o700)
    LOG.parent.mkdir(exist_ok=True)
    check_disk()
    print(f"Setting up Parka in {HOME}: {COSTS[kind]}. Nothing is installed outside this folder.", flush=True)
    if not (ENVIRONMENT / "bin" / "python").exists():
        say("1/3 making the virtual environment")
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
    say("2/3 installing the locked packages (hashes checked)")
    pip("install", "--no-deps", "--require-hashes", "-r", str(ROOT / LOCKS[kind]))
    say("3/3 installing Parka")
    pip("install", "--no-deps", "-e", str(ROOT))
    stamp(kind).write_text(fingerprint(kind))


def add_torch() -> None:
    """The environment for work, with the torch extra on top. No lock holds it: its builds differ from machine to machine."""
    ready("dev")
    if stamp("torch").is_file() and stamp("torch").read_text() == fingerprint("torch"):
        return
    import tomllib

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["torch"]
    pins = HOME / "pins.txt"
    pins.write_text("\n".join(pin.strip() for pin in PIN.findall((ROOT / LOCKS["torch"]).read_text())))
    index = os.environ.get(TORCH_INDEX)
    print(f"Adding PyTorch to {ENVIRONMENT}: {COSTS['torch']}.", flush=True)
    say("1/1 installing the torch extra; what the lock holds stays as it is")
    pip("install", "--constraint", str(pins), *(["--extra-index-url", index] if index else []), *wanted)
    stamp("torch").write_text(fingerprint("torch"))


def check_python() -> None:
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(
            f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed, this is {found}. Install it and run: make PYTHON=python3.11 demo"
        )


def check_disk() -> None:
    free_gib = shutil.disk_usage(HOME).free / 2**30
    if free_gib < NEEDED_GIB:
        raise SetupError(
            f"{NEEDED_GIB} GB of free disk are needed, {HOME} has {free_gib:.1f} GB. Free some, or point PARKA_HOME at a larger disk."
        )


def fingerprint(kind: str) -> str:
    """Changes when the lock, the project file or the interpreter does."""
    content = b"".join((ROOT / name).read_bytes() for name in (LOCKS[kind], "pyproject.toml"))
    return hashlib.sha256(content + sys.version.encode()).hexdigest()


def stamp(kind: str) -> Path:
    return ENVIRONMENT / f".parka-{kind}"


def say(step: str) -> None:
    print(f"  {step}", flush=True)


def pip(*arguments: str) -> None:
    """Run pip with its output in the log and a count on the screen. Raises SetupError with the log's tail."""
    command = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", *arguments]
    started, fetched = time.monotonic(), 0
    with LOG.open("a") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            log.write(line)
            fetched += line.startswith("Collecting")
            if sys.stdout.isatty():
                print(f"\r    {fetched} packages, {time.monotonic() - started:.0f} s ", end="", flush=True)
    if sys.stdout.isatty():
        print()
    if process.returncode != 0:
        tail = "\n".join(LOG.read_text().splitlines()[-LINES_SHOWN:])
        raise SetupError(f"pip failed; its log: {LOG}. A second run goes on from here. The last lines:\n{tail}")


if __name__ == "__main__":
    sys.exit(main())
