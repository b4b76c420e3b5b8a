"""Environments of external toolkits on this machine. Its owner declares them; nothing that is uploaded can.

Either a variable, ``PARKA_TOOL_OLIVE=/path/to/environment/bin/python``, or a table of ``tools.toml`` in ``PARKA_HOME``::

    [olive]
    python = "/opt/tools/olive/bin/python"

    [our_tool]                      # one that Parka has no driver for brings its own
    python = "/opt/tools/ours/bin/python"
    script = "/opt/tools/ours/drive.py"
    variants = ["int8"]
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from optimizer.errors import InputError
from optimizer.host_folders import HOME, shows_too_much

VARIABLE = "PARKA_TOOL_"
FILE_NAME = "tools.toml"
INHERITED = "PARKA_TOOLS"
"""How a sandboxed child, which sees no home and no other variable, learns what its supervisor knows."""
SCRIPTS = Path(__file__).resolve().parent / "passes" / "tool_scripts"
PREFIX = "tool:"
NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One toolkit: the interpreter of its environment, the script that drives it, and the ways of using it that are worth a trial.

    ``distribution`` is the package whose version counts. ``python`` is empty where no environment is declared.
    """

    name: str
    title: str
    distribution: str
    script: str
    variants: tuple[str, ...]
    python: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Declared:
    """Declared tools by name, and by name why one of them cannot be used."""

    usable: dict[str, Tool] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


KNOWN = {
    "olive": Tool(
        name="olive",
        title="Olive",
        distribution="olive-ai",
        script=str(SCRIPTS / "use_olive.py"),
        variants=("static_int8", "optimize_fp32"),
    ),
    "neural_compressor": Tool(
        name="neural_compressor",
        title="Neural Compressor",
        distribution="onnx-neural-compressor",
        script=str(SCRIPTS / "use_neural_compressor.py"),
        variants=("static_int8", "smooth_int8"),
    ),
}
"""Tools that Parka has drivers for."""


def declared_tools() -> dict[str, Tool]:
    """Tools with a usable environment on this machine, by name."""
    if INHERITED in os.environ:
        return {one["name"]: Tool(**{**one, "variants": tuple(one["variants"])}) for one in json.loads(os.environ[INHERITED])}
    return dict(_declared().usable)


def broken_tools() -> dict[str, str]:
    """Declarations that cannot be used, each with a sentence that says why; ``tools.toml`` where it is refused as a whole."""
    return {} if INHERITED in os.environ else dict(_declared().broken)


def known_tools() -> dict[str, Tool]:
    """Every tool that a recipe may name here: those with a driver, whether or not they have an environment, and declared ones."""
    broken = broken_tools()
    return {name: tool for name, tool in {**KNOWN, **declared_tools()}.items() if name not in broken}


def for_children() -> dict[str, str]:
    """The variable that tells a child of the declared tools; nothing where there are none."""
    tools = declared_tools()
    return {INHERITED: json.dumps([asdict(one) for one in tools.values()])} if tools else {}


def roots() -> tuple[str, ...]:
    """What a child must see to run the declared tools: their environments, the interpreters below them, scripts of the owner's."""
    found = {path for tool in declared_tools().values() for path in (*_environments(Path(tool.python)), Path(tool.script)) if path.exists()}
    return tuple(sorted(map(str, found)))


def runtime_name(tool: str) -> str:
    """What the tool is called among a machine's runtimes: never like a package of Parka's own environment."""
    return f"{PREFIX}{tool}"


def readable(runtime: str) -> str:
    """The name of a runtime for people."""
    return f"{runtime.removeprefix(PREFIX)} (tool)" if runtime.startswith(PREFIX) else runtime


def versions() -> dict[str, str]:
    """Version of each declared tool, by its name among the runtimes: its distribution's, and a script of the owner's by its content.

    A tool without either is left out.
    """
    found = {}
    for tool in declared_tools().values():
        installed = _installed_version(tool)
        own = "" if tool.name in KNOWN else _script_version(Path(tool.script))
        told = "+".join(part for part in (installed, own) if part)
        if told:
            found[runtime_name(tool.name)] = told
    return found


def _script_version(script: Path) -> str:
    try:
        return hashlib.sha256(script.read_bytes()).hexdigest()[:12]
    except OSError:
        return ""


def _installed_version(tool: Tool) -> str:
    from importlib.metadata import distributions

    places = [str(path) for path in Path(tool.python).parent.parent.glob("lib/python3*/site-packages")]
    return next((one.version for one in distributions(name=tool.distribution, path=places)), "")


def _declared() -> _Declared:
    variables = {name[len(VARIABLE) :].lower(): value for name, value in os.environ.items() if name.startswith(VARIABLE) and value}
    return _read(tuple(sorted(variables.items())), os.environ.get(HOME, ""))


@cache
def _read(variables: tuple[tuple[str, str], ...], home: str) -> _Declared:
    found = _Declared()
    try:
        tables = _file(Path(home) / FILE_NAME if home else None)
    except InputError as error:
        tables, found.broken[FILE_NAME] = {}, error.message
    for name, table in {**tables, **{name: {"python": python} for name, python in variables}}.items():
        try:
            found.usable[name] = _tool(name, table)
        except InputError as error:
            found.broken[name] = error.message
    return found


def _file(path: Path | None) -> dict[str, Any]:
    if path is None or not path.is_file():
        return {}
    if sys.platform != "win32" and stat.S_IMODE(path.stat().st_mode) & 0o022:
        raise _refused(f"{path} names programs to run, and others may write it: chmod go-w {path}.")
    import tomllib

    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _refused(f"{path} cannot be read: {error}.") from error


def _tool(name: str, table: Any) -> Tool:
    if not NAME.fullmatch(name) or not isinstance(table, Mapping):
        raise _refused(f'{name!r} is no tool: write a table [name] with python = "/path/to/environment/bin/python".')
    python = Path(str(table.get("python", "")))
    if not (python.is_absolute() and python.parent.name == "bin" and os.access(python, os.X_OK)):
        raise _refused(f'The tool {name!r} needs python = "/path/to/environment/bin/python"; {str(python)!r} is no such program.')
    for root in filter(shows_too_much, _environments(python)):
        raise _refused(
            f"The tool {name!r} would show {str(root)!r} as a whole to the programs that build models. Make an environment in a folder of "
            f"its own (python3 -m venv /path/to/environment) and declare its bin/python."
        )
    if name in KNOWN:
        return replace(KNOWN[name], python=str(python))
    script = Path(str(table.get("script", "")))
    variants = table.get("variants", ["default"])
    if not (script.is_absolute() and script.is_file()) or not _are_names(variants):
        raise _refused(f'Parka has no driver for the tool {name!r}: add script = "/path/to/driver.py" and variants = ["name", ...].')
    title, distribution = str(table.get("title", name)), str(table.get("distribution", name))
    return Tool(name=name, title=title, distribution=distribution, script=str(script), variants=tuple(variants), python=str(python))


def _environments(python: Path) -> tuple[Path, ...]:
    """Folders of the interpreter and of the one it links to, without those that every child sees."""
    return tuple(one for one in (python.parent.parent, python.resolve().parent.parent) if not one.resolve().is_relative_to("/usr"))


def _are_names(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(one, str) and NAME.fullmatch(one) for one in values)


def _refused(text: str) -> InputError:
    return InputError("tools.config", text)
