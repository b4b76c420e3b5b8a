"""PyTorch modules of the zoo beside the forms that the engine opens: the same examples, the same rounds, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from optimizer.specs import Precision
from tests.benchmarks.optimizer_bench.forms import TorchForm
from tests.benchmarks.optimizer_zoo import Exhibit

PROCESS = "tests.benchmarks.optimizer_bench.torch_process"
READY_S = 240.0
ROUND_S = 60.0


def torch_forms(exhibit: Exhibit, *, threads: int) -> Iterator[TorchForm]:
    """Eager and compiled, each in float32 and with bf16 autocast; nothing where the exhibit has no module."""
    if exhibit.torch_form is None:
        return
    for maker, label, compiled in (("pytorch", "PyTorch eager", False), ("torch_compile", "torch.compile", True)):
        for precision in (Precision.F32, Precision.BF16):
            yield TorchForm(
                maker=maker, label=f"{label} {precision}", torch_form=exhibit.torch_form, model=exhibit.model, precision=precision,
                compiled=compiled, threads=threads,
            )  # fmt: skip


def _environment(place: str) -> dict[str, str]:
    return {**os.environ, "TORCHINDUCTOR_CACHE_DIR": place, "TORCHINDUCTOR_COMPILE_THREADS": "1"}


def stored_outputs(form: TorchForm, *, examples: Path, outputs: Path) -> None:
    """Write what the module answers to every example. Raises RuntimeError with its last words."""
    with tempfile.TemporaryDirectory(prefix="inductor-") as place:
        command = [sys.executable, "-m", PROCESS, form.job(examples, outputs=outputs)]
        answer = subprocess.run(command, env=_environment(place), capture_output=True, text=True, timeout=600, check=False)
    if answer.returncode:
        raise RuntimeError((answer.stderr.strip().splitlines() or ["no word"])[-1][-300:])


class TorchHeld:
    """A module held open in a process. ``round`` raises RuntimeError once the process has ended or does not answer."""

    def __init__(self, form: TorchForm, *, examples: Path) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="inductor-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROCESS, form.job(examples)],
            env=_environment(self._place.name),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._answer(READY_S)

    def round(self, seconds: float) -> float:
        """Median of a call in ns."""
        assert self._process.stdin
        try:
            self._process.stdin.write(f"{seconds}\n")
            self._process.stdin.flush()
        except OSError as error:
            raise RuntimeError("the process has ended") from error
        return float(self._answer(ROUND_S + seconds))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._place.cleanup()

    def _answer(self, timeout_s: float) -> str:
        assert self._process.stdout
        watchdog = threading.Timer(timeout_s, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            self.close()
            raise RuntimeError(f"no answer within {timeout_s:.0f} s, or the process died")
        return line
