"""NNCF's post-training quantization with its defaults, run in OpenVINO."""

from __future__ import annotations

import os
from pathlib import Path

from tool_job import Job, offer

os.environ["NNCF_CI"] = "1"  # no telemetry

import nncf
import openvino as ov


def quantized(job: Job, name: str, **options: object) -> Path:
    model = ov.Core().read_model(str(job.model))
    model.reshape(job.shapes)
    result = nncf.quantize(model, nncf.Dataset(job.feeds()), **options)
    entry = job.out / name / "model.xml"
    ov.save_model(result, entry, compress_to_fp16=False)
    return entry


if __name__ == "__main__":
    job = Job()
    offer("NNCF int8", lambda: quantized(job, "default"), job=job, backend="openvino", precision="bf16")
    if job.operators.get("Softmax") and job.operators.get("MatMul", 0) > 4:
        transformer = {"model_type": nncf.ModelType.TRANSFORMER}
        offer(
            "NNCF int8 (transformer)", lambda: quantized(job, "transformer", **transformer), job=job, backend="openvino", precision="bf16"
        )
