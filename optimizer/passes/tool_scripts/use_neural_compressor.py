"""Neural Compressor for ONNX: static quantization with its defaults in QDQ form, and with SmoothQuant before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx_neural_compressor.quantization import QuantFormat, config, quantize
from tool_job import Job, offer


class Reader:
    """The examples, one at a time, as often as the tool wants to see them."""

    def __init__(self, feeds: list[dict[str, Any]]) -> None:
        self._feeds = feeds
        self.rewind()

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> dict[str, Any]:
        return next(self._left)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)

    def rewind(self) -> None:
        self._left = iter(self._feeds)


def quantized(job: Job, name: str, **extra: object) -> Path:
    entry = job.out / name / "model.onnx"
    entry.parent.mkdir(parents=True)
    settings = config.StaticQuantConfig(
        calibration_data_reader=Reader(job.feeds()),
        quant_format=QuantFormat.QDQ,
        execution_provider="CPUExecutionProvider",
        extra_options=extra,
    )
    quantize(str(job.model), str(entry), settings)
    return entry


if __name__ == "__main__":
    job = Job()
    offer("Neural Compressor static int8", lambda: quantized(job, "static"), job=job, variant="static_int8")
    offer("Neural Compressor SmoothQuant int8", lambda: quantized(job, "smooth", SmoothQuant=True), job=job, variant="smooth_int8")
