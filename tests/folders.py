"""Hugging Face folders for the tests, written without torch: a tiny encoder with seeded weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CONFIG = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "vocab_size": 64, "max_position_embeddings": 256, "type_vocab_size": 2, "hidden_act": "gelu",
    "pad_token_id": 0,
}  # fmt: skip


def encoder(folder: Path, **changes: Any) -> Path:
    """A BERT of two layers and 16 wide with a vocabulary of 64; ``changes`` go into its configuration only."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    (folder / "vocab.txt").write_text("\n".join(f"w{number}" for number in range(64)))
    write_safetensors(folder / "model.safetensors", bert_weights())
    return folder


def sharded(folder: Path) -> Path:
    """The same weights in two files with an index."""
    tensors = list(bert_weights().items())
    (folder / "model.safetensors").unlink()
    halves = {"a.safetensors": dict(tensors[::2]), "b.safetensors": dict(tensors[1::2])}
    for name, half in halves.items():
        write_safetensors(folder / name, half)
    index = {"weight_map": {tensor: name for name, half in halves.items() for tensor in half}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def bert_weights(*, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Weights of the configuration above under the names the transformers library gives them."""
    rng = np.random.default_rng(seed)
    width, inner = 16, 32
    shapes = {f"embeddings.{name}.weight": (rows, width) for name, rows in (("word_embeddings", 64), ("position_embeddings", 256), ("token_type_embeddings", 2))}  # fmt: skip
    linear = {"attention.self.query": (width, width), "attention.self.key": (width, width), "attention.self.value": (width, width),
              "attention.output.dense": (width, width), "intermediate.dense": (inner, width), "output.dense": (width, inner)}  # fmt: skip
    dense = {f"encoder.layer.{layer}.{name}": shape for layer in range(2) for name, shape in linear.items()} | {
        "pooler.dense": (width, width)
    }
    norms = [
        "embeddings.LayerNorm",
        *(f"encoder.layer.{layer}.{part}.LayerNorm" for layer in range(2) for part in ("attention.output", "output")),
    ]
    shapes |= {f"{name}.weight": shape for name, shape in dense.items()}
    found = {name: rng.normal(size=shape) * 0.3 for name, shape in shapes.items()}
    found |= {f"{name}.bias": rng.normal(size=shape[0]) * 0.1 for name, shape in dense.items()}
    found |= {f"{name}.weight": 1 + rng.normal(size=width) * 0.1 for name in norms} | {
        f"{name}.bias": rng.normal(size=width) * 0.1 for name in norms
    }
    return {name: value.astype(np.float32) for name, value in found.items()}


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Float32 arrays in the order given."""
    header, place = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [place, place + value.nbytes]}
        place += value.nbytes
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"".join(value.tobytes() for value in tensors.values()))


def made_by_the_library(folder: Path, **changes: Any) -> Path:
    """``config.json`` of a tiny network with random weights that transformers made and saved itself; needs torch."""
    import torch
    import transformers

    config = {**CONFIG, **changes}
    torch.manual_seed(0)
    kind = str(config.pop("model_type"))
    architecture = getattr(transformers, config["architectures"][0])
    architecture(transformers.CONFIG_MAPPING[kind](**config)).save_pretrained(str(folder))
    return folder / "config.json"
