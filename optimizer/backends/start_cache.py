"""What a runtime prepared at build time, kept beside the model, so that a start need not do it again.

It is used only by the same runtime version, on the same kind of processor, with the same settings and shapes; anywhere else the
model itself is opened, as if there were no cache.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from optimizer.specs import BackendSettings

FOLDER, STAMP = "start-cache", "stamp.json"
Shapes = Mapping[str, tuple[int, ...]]


@runtime_checkable
class PreparesStarts(Protocol):
    """A backend that can do a part of opening a model ahead; ``settings.cached`` asks for a session that starts from it."""

    def prepare(self, artifact: Path, settings: BackendSettings, *, shapes: Shapes | None, folder: Path) -> None:
        """Write the prepared file and its stamp into ``folder``, to lie beside ``artifact`` as ``start-cache``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The prepared file with the names of the model's inputs; or why there is none to use."""

    file: Path | None = None
    inputs: tuple[str, ...] = ()
    reason: str = ""

    @property
    def fact(self) -> str:
        """For the session's facts."""
        return "used" if self.file else f"not used: {self.reason}"


def conditions(artifact: Path, *, runtime: str, key: Mapping[str, Any], shapes: Shapes | None) -> dict[str, Any]:
    """All that a prepared file depends on, as JSON. ``key`` are the settings that decide it."""
    return {
        "runtime": runtime,
        "processor": processor(),
        "model": [artifact.name, artifact.stat().st_size],
        "settings": dict(key),
        "shapes": {name: list(shape) for name, shape in (shapes or {}).items()},
    }


def write_stamp(folder: Path, made_under: Mapping[str, Any], *, file: str, inputs: Sequence[str] = ()) -> None:
    (folder / STAMP).write_text(json.dumps({"conditions": made_under, "file": file, "inputs": list(inputs)}, indent=2, sort_keys=True))


def find(artifact: Path, here: Mapping[str, Any]) -> Found:
    """The file prepared for this artifact, if it was made under these conditions."""
    folder = artifact.parent / FOLDER
    try:
        stamp = json.loads((folder / STAMP).read_text())
        made, name, inputs = stamp["conditions"], str(stamp["file"]), tuple(str(one) for one in stamp["inputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return Found(reason="there is no readable stamp")
    differing = sorted(one for one in here if not isinstance(made, dict) or made.get(one) != here[one])
    if differing:
        return Found(reason=f"made under another {', '.join(differing)}")
    if Path(name).name != name or not (folder / name).is_file():
        return Found(reason="its file is missing")
    return Found(file=folder / name, inputs=inputs)


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Digest of the processor's model and instruction sets; elsewhere than on Linux of what the standard library knows."""
    told = ("model name", "flags", "Features", "CPU part")
    try:
        first = cpuinfo.read_text(encoding="utf-8").partition("\n\n")[0]
        facts = sorted(line for line in first.splitlines() if line.partition(":")[0].strip() in told)
    except OSError:
        facts = [platform.processor()]
    return hashlib.sha256("\n".join([platform.machine(), *facts]).encode()).hexdigest()[:32]
