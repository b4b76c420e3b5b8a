"""The one door to PyTorch: loads the network of a Hugging Face folder from its safetensors, without the network and without its code."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from optimizer.errors import InputError
from optimizer.formats.huggingface import read_config, stored_tensors
from optimizer.formats.text_encoders import TextEncoder, read_encoder


def load_torch() -> ModuleType:
    """The ``torch`` module. Raises ImportError where it or ``transformers`` is absent."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("transformers")
        return importlib.import_module("torch")


def load_encoder(entry: Path, *, attention: str | None = None) -> tuple[TextEncoder, Any]:
    """The encoder whose ``config.json`` is ``entry`` and its module in float32, ready for inference.

    ``attention`` names an implementation of the library (``eager`` exports into patterns that other runtimes fuse); None takes
    the library's own choice. Raises InputError ``backend.load_failed`` (also when weights of the architecture are missing, which
    the library would make up), and what ``read_config`` and ``read_encoder`` raise.
    """
    folder = entry.parent
    encoder = read_encoder(read_config(folder), tensors=stored_tensors(folder))
    torch = load_torch()
    architecture = getattr(importlib.import_module("transformers"), encoder.architecture)
    options = {"add_pooling_layer": encoder.pooled} if encoder.can_drop_pooler else {}
    try:
        with calm():
            module, report = architecture.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
                attn_implementation=attention, output_loading_info=True, **options,
            )  # fmt: skip
    except Exception as error:  # the library raises anything on weights that do not fit
        raise InputError("backend.load_failed", f"PyTorch cannot load the model: {' '.join(str(error).split())[:300]}") from error
    missing = sorted(map(str, report["missing_keys"]))
    if missing:
        raise InputError(
            "backend.load_failed",
            f"The weights lack {missing[0][:120]!r} and {len(missing) - 1} more that {encoder.architecture} needs; "
            "save the complete model with save_pretrained.",
        )
    return encoder, module.eval()


@contextlib.contextmanager
def calm() -> Iterator[None]:
    """No progress bars, notes and warnings of the libraries; their errors pass."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
