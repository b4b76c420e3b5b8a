"""The environment lock: exact versions of everything that a recipe's runtime needs, as installed here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version

from packaging.requirements import Requirement

from optimizer.backends import BACKENDS, DISTRIBUTIONS, distributions

PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionGap:
    """A package whose installed version is not the required one; ``found`` is empty where it is absent."""

    package: str
    wanted: str
    found: str


def required_packages(backend: str) -> tuple[str, ...]:
    """``name==version`` of the runtime, numpy and all that they require, sorted; what is not installed is left out."""
    found: dict[str, str] = {}
    pending = ["numpy", *_distributions(backend)]
    while pending:
        name = _normal(pending.pop())
        if name in found:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = package.version
        pending += _needed(package.requires or ())
    return tuple(f"{name}=={number}" for name, number in sorted(found.items()))


def version_gaps(lines: Iterable[str]) -> tuple[VersionGap, ...]:
    """Where this environment departs from the lines of a ``requirements.txt``; comments and other lines count for nothing."""
    pins = [match for line in lines if (match := PINNED.fullmatch(line.strip()))]
    gaps = [VersionGap(package=pin[1], wanted=pin[2], found=_installed(pin[1])) for pin in pins]
    return tuple(gap for gap in gaps if gap.found != gap.wanted)


def _distributions(backend: str) -> list[str]:
    """The distributions that bring the runtime: one module comes in several flavours (CPU, GPU); a partner's names its own."""
    if backend in BACKENDS:
        return list(DISTRIBUTIONS.get(backend) or packages_distributions().get(backend, []))
    return list(distributions(backend))


def _needed(lines: Iterable[str]) -> list[str]:
    requirements = [Requirement(line) for line in lines]
    return [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
