"""External toolkits as passes: each runs in an environment of its own, and its result is judged like any other.

The toolkit's driver script is started inside the build's sandboxed child: no network, the child's limits of time, memory and disk.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import PassFailed
from optimizer.passes.examples import examples_file
from optimizer.passes.onnx_files import load, save, size_facts
from optimizer.passes.quantizer import CALIBRATION_EXAMPLES, calibratable
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision
from optimizer.tools import KNOWN, SCRIPTS, Tool, runtime_name

VARIANT = "variant"
SAID_AT_MOST = 300
QUIET = {"PYTHONNOUSERSITE": "1", "OLIVE_DISABLE_TELEMETRY": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class ExternalTool:
    """One toolkit, known by what it declares; everything it does to the numbers has to pass the gate."""

    family = "external toolkit"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.CALIBRATION
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset()
    precisions: frozenset[Precision] = frozenset({Precision.F32})

    def __init__(self, tool: Tool) -> None:
        self.name = tool.name
        self.title = tool.title
        self.tools: tuple[str, ...] = ("onnx", runtime_name(tool.name))
        self._tool = tool

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if runtime_name(self.name) not in hardware.runtimes:
            return No("it runs in an environment of its own, and none is declared on this machine")
        return calibratable(card) if self._tool.name in KNOWN else Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return tuple(PassStep(name=self.name, params={VARIANT: one}) for one in self._tool.variants)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        tool = self._tool
        if not tool.python:
            raise PassFailed(f"No environment of {self.title} is declared on this machine.")
        if context.calibration is None:
            raise PassFailed(f"{self.title} needs calibration examples: add real inputs or pick a shipped corpus that fits.")
        work = context.work_dir / f"{self.name}-work"
        out = work / "out"
        out.mkdir(parents=True, exist_ok=True)
        job = {
            "model": str(source),
            "examples": str(examples_file(context.calibration)),
            "indices": list(context.calibration_indices)[:CALIBRATION_EXAMPLES],
            "shapes": {name: list(shape) for name, shape in context.shapes.items()},
            "operators": dict(context.card.operators),
            "out": str(out),
            "threads": context.hardware.cores,
            "variant": str(params.get(VARIANT, tool.variants[0])),
        }
        told = run_driver(tool, job, cwd=work)
        entry = made_file(tool, told, out=out)
        before, after = load(source), load(entry)
        facts = {"tool": tool.title, "way": told["label"], "tool_seconds": seconds_of(told), **size_facts(before, after)}
        return PassResult(entry=save(after, target_dir), facts=facts)


def external_tools(tools: dict[str, Tool]) -> dict[str, ExternalTool]:
    """A pass for each tool."""
    return {name: ExternalTool(tool) for name, tool in tools.items()}


def run_driver(tool: Tool, job: dict[str, Any], *, cwd: Path) -> dict[str, Any]:
    """What the tool's driver answered. Raises ``pass.failed`` with the last line of what it said where it gave no answer."""
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(SCRIPTS), "PATH": f"{Path(tool.python).parent}:/usr/bin:/bin"}
    try:
        done = subprocess.run(
            [tool.python, tool.script, json.dumps(job)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise PassFailed(f"{tool.title} cannot be started: {error}.") from error
    told = answer_in(done.stdout)
    if told is None:
        raise PassFailed(f"{tool.title} gave no model: {last_line(done.stderr or done.stdout)}")
    if "error" in told:
        raise PassFailed(f"{tool.title}: {str(told['error'])[-SAID_AT_MOST:]}")
    return told


def answer_in(text: str) -> dict[str, Any] | None:
    """The last line that is a JSON object with a text ``label``: tools may print what they like before and after it."""
    for line in reversed(text.splitlines()):
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict) and isinstance(told.get("label"), str):
            return told
    return None


def made_file(tool: Tool, told: dict[str, Any], *, out: Path) -> Path:
    """The model that the driver names, if it is an ONNX file of its own. Raises ``pass.failed``."""
    entry = out / str(told.get("entry", ""))
    try:
        is_own = entry.resolve().is_relative_to(out.resolve()) and entry.suffix == ".onnx" and entry.is_file()
    except (OSError, ValueError):  # a name that no file can have
        is_own = False
    if not is_own:
        raise PassFailed(
            f"{tool.title} names {str(told.get('entry'))[:SAID_AT_MOST]!r} as its result, which is no ONNX file that it wrote."
        )
    return entry


def seconds_of(told: dict[str, Any]) -> float | None:
    """How long the driver says that the tool worked; None where it says no such thing."""
    seconds = told.get("seconds")
    return seconds if isinstance(seconds, (int, float)) and 0 <= seconds < math.inf else None


def last_line(text: str) -> str:
    """The last line of a tool's own words that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-SAID_AT_MOST:] if lines else "it said nothing."
