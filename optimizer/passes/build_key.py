"""The key of a build: equal keys mean equal bytes, on this machine or any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from optimizer import tools
from optimizer.codec import digest
from optimizer.passes import optimization_pass
from optimizer.specs import PassNeeds, PassStep

KEY_VERSION = 2
"""Raise when our own passes change what they write."""


def build_key(
    model_sha256: str,
    passes: Sequence[PassStep],
    *,
    data_digest: str = "",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    versions: Mapping[str, str] | None = None,
) -> str:
    """sha256 of model, pass chain with parameters, digest of the data used, bound shapes and tool versions.

    The data digest counts only when a pass of the chain needs data; ``versions`` default to
    the installed ones of the chain's tools.
    """
    chain = [optimization_pass(step.name) for step in passes]
    uses_data = any(one.needs is not PassNeeds.NOTHING for one in chain)
    installed = tool_versions(passes) if versions is None else versions
    return digest(
        {
            "key_version": KEY_VERSION,
            "model": model_sha256,
            "passes": [{"name": step.name, "params": step.params} for step in passes],
            "calibration": data_digest if uses_data else "",
            "shapes": {name: list(shape) for name, shape in (shapes or {}).items()},
            "tools": dict(installed),
        }
    )


def tool_versions(passes: Sequence[PassStep]) -> dict[str, str]:
    """Installed version of every distribution that the chain's results depend on, an external toolkit's in its own environment; empty
    text where one is absent.
    """
    names = sorted({name for step in passes for name in optimization_pass(step.name).tools})
    elsewhere = tools.versions() if any(name.startswith(tools.PREFIX) for name in names) else {}
    return {name: _version(name, elsewhere) for name in names}


def _version(name: str, elsewhere: Mapping[str, str]) -> str:
    if name.startswith(tools.PREFIX):
        return elsewhere.get(name, "")
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
