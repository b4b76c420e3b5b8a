"""``parka``: the platform on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from rich.console import Console

from optimizer.cli_render import output_console

EXIT_INCONCLUSIVE = 2
EXIT_INFRASTRUCTURE = 3
EXIT_USAGE = 4


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def parka() -> None:
    """Parka: which form of this model, on which hardware, meets my KPIs, and can I trust the answer?"""


@parka.command()
@click.option("--port", type=click.IntRange(1024, 65535), help="Port of the web server; default: the first free one from 8000.")
def up(port: int | None) -> None:
    """Start the platform on this machine and keep it running until Ctrl-C."""
    from parka.embedded.session import prepare_owner
    from parka.embedded.stack import running_stack, serve

    console = output_console()
    with running_stack(home(), port=port, say=console.print) as stack:
        owner = prepare_owner(stack)
        stack.start_agent(registration_token=owner.registration_token)
        greet(console, stack.url, owner.login_path, owner.email, owner.password)
        serve(stack)


@parka.command()
@click.option("--port", type=click.IntRange(1024, 65535), help="Port of the web server; default: the first free one from 8000.")
@click.option("--exit", "leave", is_flag=True, help="Stop after printing the scorecard: 0 decided, 2 inconclusive, 3 infrastructure.")
@click.option("--budget", "budget_s", type=click.FloatRange(30, 3600), default=210.0, show_default=True, help="Seconds for the experiment.")
def demo(port: int | None, leave: bool, budget_s: float) -> None:
    """Upload a real sentence encoder, optimise it here, and print its scorecard."""
    from parka.embedded.demo import run_demo
    from parka.embedded.session import prepare_owner
    from parka.embedded.stack import running_stack, serve

    console = output_console()
    with running_stack(home(), port=port, say=console.print) as stack:
        owner = prepare_owner(stack)
        stack.start_agent(registration_token=owner.registration_token)
        code = run_demo(stack, owner=owner, budget_s=budget_s, console=console)
        greet(console, stack.url, owner.login_path, owner.email, owner.password)
        if leave:
            sys.exit(code)
        serve(stack)


def home() -> Path:
    """The folder everything is written under, made absolute for the child processes."""
    return Path(os.environ.get("PARKA_HOME") or ".parka").resolve()


def greet(console: Console, url: str, login_path: str, email: str, password: str) -> None:
    """Where to go and how to sign in."""
    console.print()
    console.print(f"  One-click sign-in: [bold]{url}{login_path}[/bold]", soft_wrap=True)
    console.print(f"  or {url} as {email}" + (f", password {password}" if password else ""), soft_wrap=True)
    console.print("  Ctrl-C stops everything.")


def main() -> None:
    """Entry point: known errors end in one sentence and an exit code."""
    from parka.core.errors import PlatformError
    from parka.embedded.processes import StartFailed
    from parka.embedded.stack import Stopped

    try:
        parka(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (PlatformError, StartFailed) as error:
        click.echo(f"parka: {error}", err=True)
        sys.exit(EXIT_INFRASTRUCTURE)
    except (KeyboardInterrupt, Stopped):
        sys.exit(130)


if __name__ == "__main__":
    main()
