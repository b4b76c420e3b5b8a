"""The other tools, each as its makers ship it. Those that need packages of their own get an environment of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.passes.external import last_line
from optimizer.specs import BackendSettings, Precision
from optimizer.tools import KNOWN, SCRIPTS
from tests.benchmarks.optimizer_bench.arena import Arena
from tests.benchmarks.optimizer_bench.forms import Absent, Made, form_of
from tests.benchmarks.optimizer_bench.torch_forms import torch_forms

PEER_SCRIPTS = Path(__file__).parent / "peer_scripts"
TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """A tool that runs as a script of its own; ``requirements`` empty means in Parka's environment (ONNX Runtime's own tools)."""

    name: str
    requirements: tuple[str, ...] = ()

    def __call__(self, arena: Arena, *, folder: Path, cache: Path, threads: int) -> Iterator[Made]:
        begin = time.monotonic()
        try:
            python = environment(self.name, self.requirements, cache=cache) if self.requirements else Path(sys.executable)
        except (OSError, subprocess.SubprocessError) as error:
            yield Absent(maker=self.name, label=self.name, reason=f"does not install: {error}")
            return
        job = {
            "model": str(arena.model),
            "examples": str(arena.given.folder / "inputs.npz"),
            "shapes": {name: list(shape) for name, shape in arena.inputs.shapes.items()},
            "operators": dict(arena.subject.card.operators),
            "out": str(folder),
            "threads": threads,
        }
        folder.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        try:
            answer = subprocess.run(
                [str(python), script_of(self.name), json.dumps(job)], env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, capture_output=True,
                text=True, timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            yield Absent(maker=self.name, label=self.name, reason=f"not finished after {TIMEOUT_S:.0f} s", seconds=TIMEOUT_S)
            return
        (folder / "log.txt").write_text(answer.stdout + answer.stderr)
        told = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith('{"label"')]
        if not told:
            yield Absent(maker=self.name, label=self.name, reason=last_line(answer.stderr), seconds=time.monotonic() - begin)
        for one in told:
            yield _made(self.name, one, folder=folder, threads=threads)


def script_of(name: str) -> str:
    """The driver that Parka's own pass uses, or one of the benchmark alone."""
    return KNOWN[name].script if name in KNOWN else str(PEER_SCRIPTS / f"use_{name}.py")


def _made(maker: str, told: dict[str, Any], *, folder: Path, threads: int) -> Made:
    if "entry" not in told:
        return Absent(maker=maker, label=told["label"], reason=str(told["error"])[-300:], seconds=told["seconds"])
    entry = folder / told["entry"]
    settings = BackendSettings(threads=threads, precision=Precision(told.get("precision", "f32")))
    try:
        return form_of(
            maker, told["label"], folder=entry.parent, entry=entry.name, backend=told["backend"], settings=settings, seconds=told["seconds"]
        )
    except Exception as error:  # whatever a tool wrote is its affair, not a reason to stop the benchmark
        return Absent(maker=maker, label=told["label"], reason=str(error)[-300:], seconds=told["seconds"])


def openvino_alone(arena: Arena, *, folder: Path, cache: Path, threads: int) -> Iterator[Made]:
    """The model opened by OpenVINO: as it comes (bf16 where the host has the units), and in full precision."""
    precisions = [Precision.BF16, Precision.F32] if arena.hardware.matrix_bf16 else [Precision.F32]
    for precision in precisions:
        settings = BackendSettings(threads=threads, precision=precision)
        label = f"OpenVINO {precision}"
        yield form_of("openvino", label, folder=arena.subject.model_dir, entry=arena.subject.entry, backend="openvino", settings=settings)


def pytorch(arena: Arena, *, folder: Path, cache: Path, threads: int) -> Iterator[Made]:
    """Where there is a torch form: its author's way, and torch.compile's. A Hugging Face folder is opened by the engine, ours are not."""
    if not arena.is_folder:
        yield from torch_forms(arena.exhibit, threads=threads)
        return
    for backend, label in (("pytorch", "PyTorch eager"), ("torch_compile", "torch.compile")):
        for precision in (Precision.F32, Precision.BF16):
            settings = BackendSettings(threads=threads, precision=precision)
            yield form_of(
                backend, f"{label} {precision}", folder=arena.uploaded.folder, entry=arena.uploaded.entry, backend=backend, settings=settings
            )  # fmt: skip


Peer = Callable[..., Iterator[Made]]
PEERS: dict[str, Peer] = {
    "pytorch": pytorch,
    "openvino": openvino_alone,
    "onnxruntime_quantization": Scripted(name="onnxruntime_quantization"),
    "nncf": Scripted(name="nncf", requirements=("nncf==3.4.0", "openvino==2026.4.0", "onnx")),
    "olive": Scripted(
        name="olive",
        requirements=("olive-ai==0.13.0", "pydantic==2.11.*", "onnxruntime==1.31.*", "onnx", "onnxscript", "torch==2.13.0", "requests",
                      "datasets", "transformers<5"),
    ),
    "neural_compressor": Scripted(
        name="neural_compressor",
        requirements=("onnx-neural-compressor==1.0", "onnx==1.17.*", "onnxruntime==1.20.*", "torch==2.13.0", "prettytable", "scipy<1.14",
                      "pandas", "schema"),
    ),
}  # fmt: skip


def environment(name: str, requirements: tuple[str, ...], *, cache: Path) -> Path:
    """Python of an environment with these packages; made once per set of requirements."""
    root = cache / "environments" / name
    stamp = root / "requirements.txt"
    python = root / "bin" / "python"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(root, clear=True, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *requirements], check=True)
        stamp.write_text(wanted)
    return python
