"""Olive on a CPU: its automatic optimizer in full precision and in int8, and its static quantization with real examples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tool_job import Job, offer

os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"
OLIVE = [sys.executable, "-m", "olive"]


def optimized(job: Job, precision: str) -> Path:
    """``olive optimize``."""
    target = job.out / f"optimize_{precision}"
    return _run(
        ["optimize", "--model_name_or_path", str(job.model), "--output_path", str(target), "--device", "cpu", "--provider",
         "CPUExecutionProvider", "--precision", precision, "--disable_telemetry"],
        target,
    )  # fmt: skip


def static_int8(job: Job) -> Path:
    """``olive run`` with the pass OnnxStaticQuantization at its defaults, calibrated on the examples."""
    target, data = job.out / "static_int8", job.out / "calibration_files"
    feeds = job.feeds()
    for name in job.shapes:
        folder = data / name
        folder.mkdir(parents=True)
        for index, feed in enumerate(feeds):
            feed[name].tofile(folder / f"{index:05d}.bin")
    loading = {
        "data_dir": str(data),
        "input_names": list(job.shapes),
        "input_shapes": list(job.shapes.values()),
        "input_types": [str(feeds[0][name].dtype) for name in job.shapes],
    }
    config = {
        "input_model": {"type": "OnnxModel", "model_path": str(job.model)},
        "data_configs": [{"name": "examples", "type": "RawDataContainer", "load_dataset_config": loading}],
        "passes": {"quantization": {"type": "OnnxStaticQuantization", "data_config": "examples"}},
        "output_dir": str(target),
        "cache_dir": str(job.out / "cache"),
    }
    (job.out / "olive.json").write_text(json.dumps(config))
    return _run(["run", "--config", str(job.out / "olive.json"), "--disable_telemetry"], target)


def _run(arguments: list[str], target: Path) -> Path:
    done = subprocess.run([*OLIVE, *arguments], cwd=target.parent, capture_output=True, text=True, errors="replace", check=False)
    found = sorted(target.rglob("*.onnx"))
    if not found:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        told = [line for line in said if "Error" in line or "error" in line] or said or ["it said nothing"]
        raise RuntimeError(told[-1][-400:])
    return found[0]


if __name__ == "__main__":
    job = Job()
    offer("Olive static int8", lambda: static_int8(job), job=job, variant="static_int8")
    for precision in ("fp32", "int8"):
        offer(
            f"Olive optimize {precision}", lambda precision=precision: optimized(job, precision), job=job, variant=f"optimize_{precision}"
        )
