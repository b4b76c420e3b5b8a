"""Olive's automatic optimizer for a CPU, in full precision and in int8."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from peer_job import Job, offer


def optimized(job: Job, precision: str) -> Path:
    target = job.out / precision
    command = [
        sys.executable, "-m", "olive", "auto-opt", "--model_name_or_path", str(job.model), "--output_path", str(target), "--device", "cpu",
        "--provider", "CPUExecutionProvider", "--precision", precision,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(target.rglob("*.onnx"))
    if not found:
        raise RuntimeError((done.stderr or done.stdout)[-400:])
    return found[0]


if __name__ == "__main__":
    job = Job()
    for precision in ("fp32", "int8"):
        offer(f"Olive auto-opt {precision}", lambda precision=precision: optimized(job, precision), job=job, backend="onnxruntime")
