"""What other packages register with Parka through entry points: named without loading it, loaded with care."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from optimizer.errors import EngineFault
from optimizer.host_folders import shows_too_much

PASSES, BACKENDS = "parka.passes", "parka.backends"
TEXT_AT_MOST = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """One registered name: ``target`` is ``module:class``, ``package`` the distribution that registers it."""

    name: str
    target: str
    package: str
    version: str


class NotLoaded(EngineFault):
    """A registered package that cannot be used; the message names the package and the cause."""

    def __init__(self, extension: Extension, cause: str) -> None:
        super().__init__("extension.not_loaded", f"{extension.package} could not be loaded: {cause}")


@cache
def registered(group: str) -> tuple[Extension, ...]:
    """What installed packages registered in that entry-point group; nothing of theirs is imported."""
    from importlib.metadata import entry_points  # slow to import, and a timed start needs only our own tables

    return tuple(
        Extension(
            name=entry.name,
            target=entry.value,
            package=entry.dist.name if entry.dist else entry.module,
            version=entry.dist.version if entry.dist else "",
        )
        for entry in entry_points(group=group)
    )


def load(extension: Extension, *, contract: Sequence[str]) -> Any:
    """An instance of what the extension registered, with every attribute of ``contract``. Raises NotLoaded."""
    from importlib import import_module

    module, _, name = extension.target.partition(":")
    for root in filter(shows_too_much, _roots(extension)):
        raise NotLoaded(extension, f"its sources lie directly in {root}, which children may not see; move them into a folder of their own.")
    try:
        made = getattr(import_module(module), name)()
    except (Exception, SystemExit) as error:  # a partner's package may fail in any way; the others must go on
        raise NotLoaded(extension, described(error)) from error
    missing = [one for one in contract if not hasattr(made, one)]
    if missing:
        raise NotLoaded(extension, f"{extension.target} declares no {', '.join(missing)}.")
    if made.name != extension.name:
        raise NotLoaded(extension, f"{extension.target} calls itself {made.name!r} and is registered as {extension.name!r}.")
    return made


def described(error: BaseException) -> str:
    """Kind and text of an error that may be anybody's, on one line."""
    text = " ".join(str(error).split())[:TEXT_AT_MOST]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def package_versions() -> dict[str, str]:
    """Version of every package that registers a pass or a backend."""
    return {one.package: one.version for group in (PASSES, BACKENDS) for one in registered(group)}


def import_roots() -> tuple[str, ...]:
    """Folders of the import path that lead to registered packages: a development install lies outside the environment.

    Without those that would show a child the owner's home.
    """
    found = {root for group in (PASSES, BACKENDS) for one in registered(group) for root in _roots(one)}
    return tuple(sorted(str(root) for root in found if not shows_too_much(root)))


def _roots(extension: Extension) -> set[Path]:
    from importlib.util import find_spec

    spec = _quietly(find_spec, extension.target.partition(":")[0].partition(".")[0])
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = [spec.origin] if spec is not None and spec.origin and not places else []
    return {Path(place).resolve().parent for place in (*places, *files)}


def _quietly(call: Any, name: str) -> Any:
    try:
        return call(name)
    except (ImportError, ValueError):
        return None
