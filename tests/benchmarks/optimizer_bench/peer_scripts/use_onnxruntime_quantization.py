"""ONNX Runtime's own quantizers with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from tool_job import Job, offer


class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """The examples, one at a time."""

    def __init__(self, feeds: list[dict[str, Any]]) -> None:
        self._left = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def target(job: Job, name: str) -> Path:
    folder = job.out / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "model.onnx"


def dynamic(job: Job) -> Path:
    entry = target(job, "dynamic")
    quantization.quantize_dynamic(job.model, entry)
    return entry


def static(job: Job) -> Path:
    entry = target(job, "static")
    prepared = target(job, "prepared")
    quant_pre_process(job.model, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(prepared, entry, Reader(job.feeds()))
    return entry


if __name__ == "__main__":
    job = Job()
    offer("ONNX Runtime dynamic int8", lambda: dynamic(job), job=job, backend="onnxruntime")
    offer("ONNX Runtime static int8", lambda: static(job), job=job, backend="onnxruntime")
