"""Hugging Face folders: which files of one are taken, and its ModelCard, without running or importing anything of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optimizer.errors import InputError
from optimizer.formats.bindings import resolved_bindings
from optimizer.formats.safetensors import StoredTensor, bytes_per_type, read_header
from optimizer.formats.text_encoders import BATCH, SEQUENCE, TextEncoder, read_encoder
from optimizer.specs import ModelCard
from optimizer.units import MIB

FORMAT = "huggingface"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt",
    "sentencepiece.bpe.model",
)  # fmt: skip
SHARD = re.compile(r"[A-Za-z0-9._-]{1,128}\.safetensors")
MAX_JSON_BYTES = 16 * MIB
MAX_SHARDS = 1_000
UNSAFE_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """Where a folder's files come from: their names, and a way to copy one of them to a path."""

    names: Collection[str]
    copy: Callable[[str, Path], None]


def is_model_folder(names: Collection[str]) -> bool:
    """A configuration with safetensors weights beside it, or with those that are refused for what they may run."""
    return CONFIG in names and any(name.endswith((".safetensors", *UNSAFE_WEIGHTS)) for name in names)


def take_folder(source: FolderSource, target_dir: Path) -> tuple[str, ...]:
    """Copy configuration, weights and tokenizer into ``target_dir`` and check them; returns the names that were copied.

    Code (``*.py``) and pickled weights are never copied. Raises InputError ``format.no_model``, ``huggingface.*``,
    ``safetensors.*``, ``model.code_disabled``.
    """
    taken = [CONFIG, *(name for name in TOKENIZER if name in source.names)]
    for name in taken:
        source.copy(name, target_dir / name)
    config = read_config(target_dir)
    for name in _weights(source, target_dir):
        source.copy(name, target_dir / name)
        taken.append(name)
    if (target_dir / INDEX).exists():
        taken.append(INDEX)
    read_encoder(config, tensors=stored_tensors(target_dir))
    return tuple(taken)


def read_config(folder: Path) -> dict[str, Any]:
    """The checked ``config.json``. Raises InputError ``huggingface.config``, ``huggingface.quantized``, ``model.code_disabled``."""
    config = _json(folder / CONFIG)
    if "auto_map" in config:
        raise InputError(
            "model.code_disabled",
            "The model brings its own Python code (auto_map in config.json), which is not run; use an architecture of the transformers "
            "library or export the model to ONNX: torch.onnx.export(model, inputs, 'model.onnx').",
        )
    if config.get("quantization_config"):
        raise InputError(
            "huggingface.quantized", "The weights are quantised by another tool; upload the original float model, or an ONNX export."
        )
    return config


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's weight files. Raises InputError ``safetensors.*``."""
    found: dict[str, StoredTensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        header = read_header(path)
        if found.keys() & header.keys():
            raise InputError("safetensors.malformed", f"{path.name!r} repeats tensors of another file; save the model again.")
        found |= header
    return found


def inspect_huggingface(entry: Path, *, bindings: Mapping[str, int] | None = None, warnings: tuple[str, ...] = ()) -> ModelCard:
    """The card of the folder whose ``config.json`` is ``entry``; FLOPs hold at ``bindings``.

    Raises InputError ``huggingface.*``, ``safetensors.*``, ``input.refused`` for a sequence longer than the model can read.
    """
    folder = entry.parent
    config, tensors = read_config(folder), stored_tensors(folder)
    encoder = read_encoder(config, tensors=tensors)
    sizes = bytes_per_type(list(tensors.values()))
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path != entry)
    card = ModelCard(
        format=FORMAT, entry=entry.name, sha256=_digest(folder, [entry.name, *names]),
        size_bytes=sum((folder / name).stat().st_size for name in (entry.name, *names)),
        producer=f"transformers {str(config.get('transformers_version', ''))[:40]}".strip(), inputs=encoder.inputs, outputs=encoder.outputs,
        parameters=sum(tensor.elements for tensor in tensors.values() if tensor.dtype.startswith(("float", "bfloat"))),
        weight_bytes=sum(sizes.values()), precisions=sizes, external_files=tuple(names), task=encoder.task,
        vocabularies=encoder.vocabularies, metadata={"architecture": encoder.architecture, "layers": str(encoder.depth)}, warnings=warnings,
    )  # fmt: skip
    return _bound(card, encoder, bindings or {})


def _bound(card: ModelCard, encoder: TextEncoder, bindings: Mapping[str, int]) -> ModelCard:
    bound = resolved_bindings(card, bindings)
    length = bound.get(SEQUENCE, encoder.longest)
    if length > encoder.longest:
        raise InputError("input.refused", f"The model reads at most {encoder.longest} tokens; bind {SEQUENCE} to that or less.")
    return replace(card, bindings=bound, flops=encoder.flops(batch=bound[BATCH], length=length))


def _weights(source: FolderSource, target_dir: Path) -> list[str]:
    """Names of the weight files: the one, or those of the index."""
    if WEIGHTS in source.names:
        return [WEIGHTS]
    if INDEX not in source.names:
        raise InputError(
            "format.no_model",
            f"The folder has no {WEIGHTS}; save the weights with model.save_pretrained(folder), which writes safetensors, not pickles.",
        )
    source.copy(INDEX, target_dir / INDEX)
    placed = _json(target_dir / INDEX).get("weight_map")
    names = sorted({str(name) for name in placed.values()}) if isinstance(placed, dict) else []
    absent = next((name for name in names if not SHARD.fullmatch(name) or name not in source.names), None)
    if not names or len(names) > MAX_SHARDS or absent is not None:
        raise InputError(
            "huggingface.config", f"{INDEX} names weights that are not beside it ({str(absent)[:80]!r}); add every file it names."
        )
    return names


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("it is too large")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("huggingface.config", f"{path.name!r} cannot be read ({str(error)[:80]}); save the model again.") from None
    if not isinstance(value, dict):
        raise InputError("huggingface.config", f"{path.name!r} is no table; save the model again with save_pretrained.")
    return value


def _digest(folder: Path, names: list[str]) -> str:
    """sha256 of the list of files with theirs."""
    whole = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            whole.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n".encode())
    return whole.hexdigest()
