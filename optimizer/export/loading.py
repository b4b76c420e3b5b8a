"""How to load a bundle: a few lines of Python with exactly the settings that were measured."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from optimizer.specs import BackendSettings, Recipe


def loading_notes(recipe: Recipe, *, entry: str, shapes: Mapping[str, Sequence[int]], runtimes: Mapping[str, str]) -> str:
    """The text of README.txt."""
    version = runtimes.get(recipe.backend, "")
    bound = "\n".join(f"  {json.dumps(name)}: {list(shape)}" for name, shape in shapes.items()) or "  as the model declares them"
    code = {"onnxruntime": _onnxruntime, "openvino": _openvino}.get(recipe.backend, _other)
    return (
        "A model bundle made by Parka\n"
        "============================\n\n"
        f"Recipe: {recipe.label}\n"
        f"Runtime: {recipe.backend}{' ' + version if version else ''}\n"
        f"Model: {entry}\n"
        f"Measured with these input shapes:\n{bound}\n\n"
        "recipe.json holds the passes and settings, measurements.json what was measured and against what.\n"
        "The numbers hold for these settings on that machine; other settings or hardware need their own measurement.\n\n"
        "Load it with Python:\n\n"
        f"{code(recipe, entry=entry, shapes=shapes)}"
    )


def _onnxruntime(recipe: Recipe, *, entry: str, shapes: Mapping[str, Sequence[int]]) -> str:
    settings = recipe.settings
    lines = [
        "import os",
        "",
        'os.environ["ORT_DISABLE_TELEMETRY"] = "1"',
        "import onnxruntime as ort",
        "",
        "options = ort.SessionOptions()",
    ]
    if settings.threads is not None:
        lines.append(f"options.intra_op_num_threads = {settings.threads}")
    if settings.spinning is not None:
        lines.append(f'options.add_session_config_entry("session.intra_op.allow_spinning", "{int(settings.spinning)}")')
    provider = settings.provider or "CPUExecutionProvider"
    lines += [
        f"session = ort.InferenceSession({json.dumps(entry)}, options, providers=[{json.dumps(provider)}])",
        f"outputs = session.run(None, {{{_feeds(shapes)}}})",
    ]
    return _indented(lines)


def _openvino(recipe: Recipe, *, entry: str, shapes: Mapping[str, Sequence[int]]) -> str:
    settings = recipe.settings
    bound = ", ".join(f"{json.dumps(name)}: {list(shape)}" for name, shape in shapes.items())
    lines = ["import openvino as ov", "", "core = ov.Core()", f"model = core.read_model({json.dumps(entry)})"]
    lines += [f"model.reshape({{{bound}}})"] if bound else []
    lines += [
        f'compiled = core.compile_model(model, "{settings.device}", {{',
        *(f"    {json.dumps(key)}: {json.dumps(value)}," for key, value in openvino_properties(settings).items()),
        "})",
        f"outputs = compiled({{{_feeds(shapes)}}})",
    ]
    return _indented(lines)


def openvino_properties(settings: BackendSettings) -> dict[str, str]:
    """The properties that were set while measuring."""
    chosen = {
        "PERFORMANCE_HINT": "LATENCY" if settings.streams == 1 else "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": settings.precision.value,
        "NUM_STREAMS": str(settings.streams),
    }
    if settings.threads is not None:
        chosen["INFERENCE_NUM_THREADS"] = str(settings.threads)
    return {**chosen, **settings.extra}


def _other(recipe: Recipe, *, entry: str, shapes: Mapping[str, Sequence[int]]) -> str:
    return f"  Open {entry} with {recipe.backend} and the settings of recipe.json.\n"


def _feeds(shapes: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{json.dumps(name)}: {_variable(name)}" for name in shapes) or "..."


def _variable(name: str) -> str:
    """An identifier for an input; its name comes out of a file and may be anything."""
    return "input_" + re.sub(r"[^A-Za-z0-9_]", "_", name)


def _indented(lines: Sequence[str]) -> str:
    return "".join(f"    {line}".rstrip() + "\n" for line in lines)
