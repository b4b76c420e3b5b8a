"""Serving configurations of other servers, from the same plan: a Dockerfile, a Triton repository, OpenVINO Model Server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from optimizer.backends.providers import CPU
from optimizer.export.plan import ALL_REWRITES, ONNXRUNTIME, OPENVINO, SessionPlan
from optimizer.measure.batches import batched_shapes
from optimizer.specs import TensorSpec

MODEL_NAME = "model"
TRITON_TYPES = {
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "bfloat16": "BF16", "bool": "BOOL", "string": "STRING",
    **{f"{kind}int{bits}": f"{kind.upper()}INT{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
TRITON_LEVELS = {"ORT_ENABLE_BASIC": -1, "ORT_ENABLE_EXTENDED": 1, "ORT_DISABLE_ALL": 2}
TRITON_KINDS = {CPU: "KIND_CPU", "CUDAExecutionProvider": "KIND_GPU"}


def dockerfile(*, python: str) -> str:
    """An image with the locked packages, the model and ``serve.py``, run without privileges."""
    return (
        f"FROM python:{python}-slim\n"
        "WORKDIR /bundle\n"
        "COPY requirements.txt ./\n"
        "RUN pip install --no-cache-dir -r requirements.txt\n"
        "COPY recipe.json serve.py ./\n"
        "COPY samples/ samples/\n"
        "COPY model/ model/\n"
        "ENV ORT_DISABLE_TELEMETRY=1\n"
        "USER 65534:65534\n"
        "EXPOSE 8080\n"
        'HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen(\'http://127.0.0.1:8080/health\', timeout=3)"]\n'
        'CMD ["python", "serve.py", "--host", "0.0.0.0", "--port", "8080"]\n'
    )


def repository_script() -> str:
    """Puts the model files where a model repository wants them: hard links, or copies across file systems."""
    return (
        "#!/bin/sh\n"
        "# Lays the model files out as version 1 of this repository, by hard link where the file system allows it.\n"
        "set -eu\n"
        'here=$(cd "$(dirname "$0")" && pwd)\n'
        f'version="$here/{MODEL_NAME}/1"\n'
        'rm -rf "$version"\n'
        'mkdir -p "$version"\n'
        'for file in "$here"/../model/*; do\n'
        '  ln "$file" "$version/" 2>/dev/null || cp -R "$file" "$version/"\n'
        "done\n"
    )


def triton_config(plan: SessionPlan, *, file_name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str | None:
    """``config.pbtxt`` for Triton's ONNX Runtime backend, or None: another runtime, device or tensor type than it can serve."""
    kind = TRITON_KINDS.get(plan.providers[0][0]) if plan.runtime == ONNXRUNTIME else None
    if kind is None or any(tensor.dtype not in TRITON_TYPES for tensor in (*inputs, *outputs)):
        return None
    is_batched = plan.batch > 1
    lines = [
        f"name: {_quoted(MODEL_NAME)}",
        'backend: "onnxruntime"',
        f"default_model_filename: {_quoted(file_name)}",
        f"max_batch_size: {plan.batch if is_batched else 0}",
        *([f"dynamic_batching {{ preferred_batch_size: [ {plan.batch} ] }}"] if is_batched else []),
        *(f"input [ {_tensor(tensor, is_batched=is_batched)} ]" for tensor in inputs),
        *(f"output [ {_tensor(tensor, is_batched=is_batched)} ]" for tensor in outputs),
        f"instance_group [ {{ count: {plan.streams} kind: {kind} }} ]",
        *_level(plan.graph_level),
        *(_parameter(key, value) for key, value in {"intra_op_thread_count": str(plan.threads), "execution_mode": "0"}.items()),
        *(
            f"# No parameter of Triton says {json.dumps(f'{key}={value}')}; measure again if it matters."
            for key, value in plan.config.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def ovms_config(plan: SessionPlan, *, shapes: Mapping[str, Sequence[int]]) -> dict[str, object] | None:
    """``config.json`` for OpenVINO Model Server, or None when the recipe was measured with another runtime."""
    if plan.runtime != OPENVINO:
        return None
    served: dict[str, object] = {
        "name": MODEL_NAME,
        "base_path": MODEL_NAME,
        "target_device": plan.device,
        "plugin_config": dict(plan.properties),
    }
    if plan.streams > 1:
        served["nireq"] = plan.streams
    if shapes:
        whole = batched_shapes({name: tuple(shape) for name, shape in shapes.items()}, plan.batch)
        served["shape"] = {name: f"({','.join(str(size) for size in shape)})" for name, shape in whole.items()}
    return {"model_config_list": [{"config": served}]}


def _tensor(tensor: TensorSpec, *, is_batched: bool = False) -> str:
    """A server that batches adds the first dim itself."""
    dims = [size if isinstance(size, int) else -1 for size in (tensor.shape[1:] if is_batched else tensor.shape)]
    shape = f"dims: [ {', '.join(str(size) for size in dims)} ]" if dims else "dims: [ 1 ] reshape { shape: [ ] }"
    return f"{{ name: {_quoted(tensor.name)} data_type: TYPE_{TRITON_TYPES[tensor.dtype]} {shape} }}"


def _level(graph_level: str) -> list[str]:
    if graph_level == ALL_REWRITES:
        return []
    if graph_level not in TRITON_LEVELS:
        return [f"# No level of Triton means {graph_level}; all rewrites are on."]
    return [f"optimization {{ graph {{ level: {TRITON_LEVELS[graph_level]} }} }}"]


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"


def _quoted(text: str) -> str:
    """A string of protobuf's text form; names come out of a file and may hold anything."""
    kept = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(kept)}"'
