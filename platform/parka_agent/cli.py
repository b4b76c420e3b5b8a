"""``parka-agent``: this machine as a hardware agent."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from optimizer.errors import EngineError, InputError
from parka_agent import logs

EXIT_FAILED = 1
EXIT_INFRASTRUCTURE = 3
EXIT_USAGE = 4
DEFAULT_HOME = Path.home() / ".parka-agent"
home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_HOME,
    show_default=True,
    help="Folder for identity, cache and work.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def agent() -> None:
    """Optimize and measure models on this machine for a Parka server."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    logs.configure(os.environ.get("PARKA_LOG_LEVEL", "INFO"))


@agent.command()
@click.option("--server", required=True, help="Address of the server, such as https://parka.example.")
@click.option("--token", required=True, help="The one-time registration token, pkr_…")
@click.option("--name", default="", help="Name shown on the Agents page.")
@home_option
def register(server: str, token: str, name: str, home: Path) -> None:
    """Exchange a one-time token for this machine's own identity."""
    from parka_agent.registration import register_here

    identity = register_here(server, token=token, name=name, home=home)
    click.echo(f"Registered as {identity.agent_id}. Next: parka-agent run --home {home}")


@agent.command()
@click.option("--server", default="", help="The server's address, when it has moved.")
@home_option
def run(server: str, home: Path) -> None:
    """Serve until stopped: claim runs, measure, report."""
    from parka_agent.state import Home
    from parka_agent.supervisor import Supervisor

    sys.exit(Supervisor(Home(folder=home.resolve()), server_url=server).run())


@agent.command()
@home_option
def doctor(home: Path) -> None:
    """Say what works on this machine and what does not."""
    from parka_agent.doctor import examine
    from parka_agent.state import Home

    folder = Home(folder=home.resolve())
    folder.make()
    findings = examine(folder)
    for finding in findings:
        click.echo(f"{'ok ' if finding.good else '-- '} {finding.topic:<9} {finding.text}")
    sys.exit(0 if any(finding.good for finding in findings if finding.topic == "sandbox") else EXIT_FAILED)


def main() -> None:
    """Entry point: known errors end in one sentence and an exit code."""
    try:
        agent(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except InputError as error:
        click.echo(f"parka-agent: {error}", err=True)
        sys.exit(EXIT_USAGE)
    except EngineError as error:
        click.echo(f"parka-agent: {error}", err=True)
        sys.exit(EXIT_INFRASTRUCTURE)


if __name__ == "__main__":
    main()
