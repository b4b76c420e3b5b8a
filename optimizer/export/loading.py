"""README.txt of a bundle: what is inside, how to serve, replay and load it with exactly the settings that were measured."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optimizer.export.contents import Described
from optimizer.export.plan import ALL_REWRITES, ONNXRUNTIME, OPENVINO, PYTORCH, TORCH_COMPILE, SessionPlan
from optimizer.measure.batches import batched_shapes
from optimizer.specs import Precision

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Included:
    """Which optional parts this bundle has; ``olive_missing`` says why there is no Olive config, empty when there is one."""

    server: bool
    triton: bool
    ovms: bool
    olive_missing: str


def loading_notes(described: Described, *, included: Included, packages: Sequence[str]) -> str:
    """The text of README.txt."""
    recipe = described.recipe
    version = described.runtimes.get(recipe.backend, "")
    bound = "\n".join(f"  {json.dumps(name)}: {list(shape)}" for name, shape in described.shapes.items()) or "  as the model declares them"
    code = {ONNXRUNTIME: _onnxruntime, OPENVINO: _openvino, PYTORCH: _pytorch, TORCH_COMPILE: _pytorch}.get(recipe.backend, _other)
    return (
        "A model bundle made by Parka\n"
        "============================\n\n"
        f"Recipe: {recipe.label}\n"
        f"Runtime: {recipe.backend}{' ' + version if version else ''}\n"
        f"Model: {described.entry}\n"
        f"Measured with these input shapes:\n{bound}\n\n"
        "recipe.json holds the passes and settings, measurements.json what was measured, where and against what. The numbers hold for\n"
        "these settings on that machine; other settings or hardware need their own measurement:\n\n"
        "    parka-optimize replay BUNDLE\n\n"
        f"samples/ holds {described.samples} of the inputs it was measured with (inputs.npz, first axis counting examples) and the model's own\n"
        "outputs (outputs.npz, named output/example in the order of recipe.json). Look at them before you hand the bundle on.\n\n"
        f"{_parts(included, packages)}"
        f"{_load(described.session)}"
        "Load it with Python:\n\n"
        f"{code(described)}"
    )


def _load(plan: SessionPlan) -> str:
    """What the load was, where it was more than one example at a time."""
    cache = (
        "model/start-cache/ is what the runtime prepared for starts. serve.py uses it where runtime version, kind of processor and settings\n"
        "are those it was made under, and opens the model itself anywhere else; parka-optimize replay always opens the\nmodel itself.\n\n"
        if plan.start_cache
        else ""
    )
    if plan.streams == 1 and plan.batch == 1:
        return cache
    calls = "one call at a time" if plan.streams == 1 else f"{plan.streams} calls at once, each from a thread of its own"
    shared = plan.streams > 1 and plan.runtime == ONNXRUNTIME
    sessions = "" if not shared else ("; all share one session" if plan.threads == 1 else "; each has a session of its own")
    openvino = "; each has a request of its own (compiled.create_infer_request)" if plan.streams > 1 and plan.runtime == OPENVINO else ""
    batch = "" if plan.batch == 1 else f" of {plan.batch} examples along the first axis"
    return f"It was measured with {calls}{batch}{sessions}{openvino}. serve.py does the same.\n\n{cache}"


def _parts(included: Included, packages: Sequence[str]) -> str:
    parts = [f"requirements.txt pins the {len(packages)} packages it needs: pip install -r requirements.txt\n"]
    if any(line.startswith("torch==") and "+" in line for line in packages):
        parts.append(f"This build of torch comes from PyTorch's own index: add --extra-index-url {TORCH_INDEX}\n")
    if included.server:
        parts.append(
            "Serve it (loopback by default, no authentication), or compare it with the samples:\n\n"
            "    python serve.py --port 8080\n    python serve.py --check\n    docker build -t model . && docker run -p 127.0.0.1:8080:8080 model\n"
        )
    else:
        parts.append("serve.py and Dockerfile: left out; they serve recipes of ONNX Runtime and OpenVINO.\n")
    if included.triton:
        parts.append("Triton: sh triton/make.sh, then tritonserver --model-repository=triton\n")
    else:
        parts.append("Triton: left out; its ONNX Runtime backend cannot serve this recipe's runtime, device or tensor types.\n")
    if included.ovms:
        parts.append("OpenVINO Model Server (2025 or later): sh ovms/make.sh, then ovms --config_path ovms/config.json --rest_port 8000\n")
    else:
        parts.append("OpenVINO Model Server: left out; this recipe was not measured with OpenVINO.\n")
    if included.olive_missing:
        parts.append(f"Olive: left out; {included.olive_missing}.\n")
    else:
        parts.append(
            "Olive: put the untouched model beside olive.json as original.onnx and run olive run --config olive.json (Olive 0.13). Static\n"
            "quantization reads your calibration examples as raw files, one folder per input below calibration/.\n"
        )
    return "\n".join(parts) + "\n"


def _onnxruntime(described: Described) -> str:
    plan = described.session
    lines = [
        "import os",
        "",
        'os.environ["ORT_DISABLE_TELEMETRY"] = "1"',
        "import onnxruntime as ort",
        "",
        "options = ort.SessionOptions()",
        f"options.intra_op_num_threads = {plan.threads}",
    ]
    if plan.graph_level != ALL_REWRITES:
        lines.append(f"options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, {json.dumps(plan.graph_level)})")
    lines += [f"options.add_session_config_entry({json.dumps(key)}, {json.dumps(value)})" for key, value in plan.config.items()]
    lines += [
        f"session = ort.InferenceSession({json.dumps(described.entry)}, options, providers={_providers(plan)})",
        f"outputs = session.run(None, {{{_feeds(described.shapes)}}})",
    ]
    return _indented(lines)


def _providers(plan: SessionPlan) -> str:
    return repr([(name, options) if options else name for name, options in plan.providers])


def _openvino(described: Described) -> str:
    plan = described.session
    whole = batched_shapes(described.shapes, plan.batch)
    bound = ", ".join(f"{json.dumps(name)}: {list(shape)}" for name, shape in whole.items())
    lines = ["import openvino as ov", "", "core = ov.Core()", f"model = core.read_model({json.dumps(described.entry)})"]
    lines += [f"model.reshape({{{bound}}})"] if bound else []
    lines += [
        f"compiled = core.compile_model(model, {json.dumps(plan.device)}, {{",
        *(f"    {json.dumps(key)}: {json.dumps(value)}," for key, value in plan.properties.items()),
        "})",
        f"outputs = compiled({{{_feeds(described.shapes)}}})",
    ]
    return _indented(lines)


def _pytorch(described: Described) -> str:
    """The library's own class of the folder, in float32; bf16 is autocast, as it was measured."""
    folder, settings = described.entry.rpartition("/")[0], described.recipe.settings
    reduced = ', torch.autocast("cpu", dtype=torch.bfloat16)' if settings.precision is Precision.BF16 else ""
    feeds = ", ".join(f"{json.dumps(name)}: torch.from_numpy({_variable(name)})" for name in described.shapes) or "..."
    names = [tensor.name for tensor in described.outputs]
    lines = [
        "import json",
        "",
        "import torch",
        "import transformers",
        "",
        f"torch.set_num_threads({described.session.threads})",
        f"with open({json.dumps(described.entry)}) as file:",
        '    architecture = getattr(transformers, json.load(file)["architectures"][0])',
        "# Weights that the library says it made up (a pooler) play no part in the outputs below.",
        "model = architecture.from_pretrained(",
        f"    {json.dumps(folder)}, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32",
        ").eval()",
        *(["model = torch.compile(model, dynamic=False)"] if described.recipe.backend == TORCH_COMPILE else []),
        f"with torch.inference_mode(){reduced}:",
        f"    answer = model(**{{{feeds}}})",
        f"outputs = [answer[name].float().numpy() for name in {json.dumps(names)}]",
    ]
    return _indented(lines)


def _other(described: Described) -> str:
    return f"  Open {described.entry} with {described.recipe.backend} and the settings of recipe.json.\n"


def _feeds(shapes: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{json.dumps(name)}: {_variable(name)}" for name in shapes) or "..."


def _variable(name: str) -> str:
    """An identifier for an input; its name comes out of a file and may be anything."""
    return "input_" + re.sub(r"[^A-Za-z0-9_]", "_", name)


def _indented(lines: Sequence[str]) -> str:
    return "".join(f"    {line}".rstrip() + "\n" for line in lines)
