"""What the owner of a one-machine platform needs to sign in and to call the API."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from parka.embedded.processes import Program, StartFailed
from parka.embedded.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Credentials of the owner; ``password`` is read back from the home folder after the first start."""

    team: str
    email: str
    password: str
    api_token: str
    login_path: str
    registration_token: str | None


def prepare_owner(stack: Stack) -> Owner:
    """Team, owner and tokens through the platform's own services, in a process of its own. Raises StartFailed."""
    log = stack.layout.log("prepare-home")
    command = [sys.executable, "-m", "django", "prepare_home", *([] if stack.is_registered() else ["--register"])]
    with log.open("ab") as errors:
        done = subprocess.run(command, env=stack.environment, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
    if done.returncode != 0:
        raise StartFailed(Program(name="prepare-home", command=command, environment={}, log=log), f"failed with code {done.returncode}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return Owner(**{**answer, "password": keep_password(stack, answer["password"])})


def keep_password(stack: Stack, fresh: str | None) -> str:
    """Store a just-made password with mode 0600; else read the stored one back (empty when the owner changed it)."""
    path = stack.layout.owner_password
    if fresh:
        path.touch(mode=0o600)
        path.write_text(fresh)
    return path.read_text() if path.is_file() else ""
