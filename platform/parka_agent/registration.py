"""Join a server: probe the host, test the sandbox, trade the one-time token for an identity."""

from __future__ import annotations

from pathlib import Path

from optimizer import __version__
from optimizer.codec import to_jsonable
from parka_agent.client import Server
from parka_agent.host import host_profile, open_sandbox, sandbox_facts
from parka_agent.protocol import Registered, Registration, decode
from parka_agent.state import Home, Identity

PATIENCE_S = 30.0


def register_here(server_url: str, *, token: str, name: str, home: Path) -> Identity:
    """Register and keep the identity (mode 0600). Raises ServerRefused ``agent.registration_used``, ``agent.registration_invalid``."""
    folder = Home(folder=home.resolve())
    folder.make()
    with open_sandbox(folder) as sandbox:
        facts = host_profile(folder, sandbox)
        message = Registration(
            token=token, name=name, agent_version=__version__, facts=to_jsonable(facts), sandbox=sandbox_facts(folder, sandbox.level)
        )
    answer = decode(Registered, Server(server_url).post("register", message, patience_s=PATIENCE_S).content)
    identity = Identity(server=server_url.rstrip("/"), agent_id=answer.agent_id, agent_token=answer.agent_token, name=name)
    folder.keep(identity)
    return identity
