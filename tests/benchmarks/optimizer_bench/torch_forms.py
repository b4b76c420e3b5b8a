"""PyTorch modules of the zoo beside the forms that the engine opens: the same examples, the same rounds, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
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


def _environment(compiled: Path) -> dict[str, str]:
    return {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(compiled), "TORCHINDUCTOR_COMPILE_THREADS": "1"}


def stored_outputs(form: TorchForm, *, examples: Path, outputs: Path, compiled: Path) -> None:
    """Write what the module answers to every example. ``compiled`` keeps what was compiled. Raises RuntimeError with its last words."""
    command = [sys.executable, "-m", PROCESS, form.job(examples, outputs=outputs)]
    answer = subprocess.run(command, env=_environment(compiled), capture_output=True, text=True, timeout=600, check=False)
    if answer.returncode:
        raise RuntimeError((answer.stderr.strip().splitlines() or ["no word"])[-1][-300:])


class TorchHeld:
    """A module held open in a process. ``round`` raises RuntimeError once the process has ended or does not answer."""

    def __init__(self, form: TorchForm, *, examples: Path, compiled: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROCESS, form.job(examples)],
            env=_environment(compiled),
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
