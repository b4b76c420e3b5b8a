"""Execution providers of ONNX Runtime: which device each serves and with which options it keeps a precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from optimizer.specs import Precision

CPU = "CPUExecutionProvider"
Options = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """``options`` maps each precision that the provider can be held to onto the options that do so."""

    device: str
    options: dict[Precision, Options] = field(default_factory=lambda: {Precision.F32: {}})
    cache_option: str = ""
    threads_option: str = ""
    remote: bool = False

    def settings(self, precision: Precision, *, threads: int, cache_dir: Path | None) -> Options:
        """Provider options as ONNX Runtime takes them: text to text."""
        chosen = dict(self.options[precision])
        if self.cache_option and cache_dir is not None:
            chosen[self.cache_option] = str(cache_dir)
        if self.threads_option:
            chosen[self.threads_option] = str(threads)
        return chosen


F32, BF16, F16 = Precision.F32, Precision.BF16, Precision.F16

PROVIDERS: dict[str, Provider] = {
    CPU: Provider(device="CPU"),
    "XnnpackExecutionProvider": Provider(device="CPU", threads_option="intra_op_num_threads"),
    "DnnlExecutionProvider": Provider(device="CPU"),
    "ACLExecutionProvider": Provider(device="CPU"),
    "OpenVINOExecutionProvider": Provider(
        device="CPU", options={F32: {"device_type": "CPU", "precision": "FP32"}}, cache_option="cache_dir", threads_option="num_of_threads"
    ),
    "CUDAExecutionProvider": Provider(device="CUDA", options={F32: {"use_tf32": "0"}}),
    "TensorrtExecutionProvider": Provider(
        device="CUDA",
        options={
            F32: {"trt_engine_cache_enable": "1"},
            F16: {"trt_engine_cache_enable": "1", "trt_fp16_enable": "1"},
            BF16: {"trt_engine_cache_enable": "1", "trt_bf16_enable": "1"},
        },
        cache_option="trt_engine_cache_path",
    ),
    "MIGraphXExecutionProvider": Provider(device="ROCM", options={F32: {}, F16: {"migraphx_fp16_enable": "1"}}),
    "DmlExecutionProvider": Provider(device="DML"),
    "CoreMLExecutionProvider": Provider(device="CoreML", options={F32: {"ModelFormat": "MLProgram"}}, cache_option="ModelCacheDirectory"),
    "QNNExecutionProvider": Provider(device="QNN"),
    "WebGpuExecutionProvider": Provider(device="WebGPU"),
    "AzureExecutionProvider": Provider(device="Azure", remote=True),
}


def provider(name: str) -> Provider:
    """The table's entry; a provider that a vendor added to ONNX Runtime gets no options and its own name as device."""
    return PROVIDERS.get(name) or Provider(device=name.removesuffix("ExecutionProvider"))
