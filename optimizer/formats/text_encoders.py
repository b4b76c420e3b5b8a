"""Text encoders of the transformers library: what their configuration says of inputs, outputs and work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from optimizer.errors import InputError
from optimizer.specs import TaskKind, TensorSpec

BATCH, SEQUENCE = "batch", "sequence"
DEFAULT_LENGTH = 128
LARGEST_SIZE = 1 << 24


class Head(StrEnum):
    """What stands on the encoder, by the ending of its class."""

    NONE = "Model"
    SEQUENCE_LABEL = "ForSequenceClassification"
    TOKEN_LABELS = "ForTokenClassification"  # noqa: S105
    MASKED_WORDS = "ForMaskedLM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One ``model_type``: the prefix of its classes and the names its configuration uses.

    ``reserved`` are the rows of the position table that no token may use.
    """

    prefix: str
    width: str = "hidden_size"
    depth: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    inner: str = "intermediate_size"
    segments: bool = True
    pooler: bool = True
    reserved: int = 0


FAMILIES: Mapping[str, Family] = {
    "bert": Family(prefix="Bert"),
    "electra": Family(prefix="Electra", pooler=False),
    "roberta": Family(prefix="Roberta", reserved=2),
    "xlm-roberta": Family(prefix="XLMRoberta", reserved=2),
    "camembert": Family(prefix="Camembert", reserved=2),
    "distilbert": Family(
        prefix="DistilBert", width="dim", depth="n_layers", heads="n_heads", inner="hidden_dim", segments=False, pooler=False
    ),
}
TASKS = {Head.NONE: TaskKind.EMBEDDING, Head.SEQUENCE_LABEL: TaskKind.CLASSIFICATION}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoder:
    """An encoder as its configuration describes it; sizes are counts of elements.

    ``segments`` are the kinds of sentences it tells apart, 0 when it is not told; ``pooled`` tells whether its pooler has weights; ``can_drop_pooler`` whether its class can be made without one.
    """

    architecture: str
    head: Head
    width: int
    depth: int
    inner: int
    vocabulary: int
    longest: int
    labels: int
    heads: int
    segments: int
    pooled: bool
    can_drop_pooler: bool

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Token ids, mask and, where the model tells sentences apart, segments: int64 [batch, sequence]."""
        names = ("input_ids", "attention_mask", *(("token_type_ids",) if self.segments else ()))
        return tuple(TensorSpec(name=name, dtype="int64", shape=(BATCH, self.length)) for name in names)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Float32 outputs in the order the model gives them."""
        if self.head is Head.SEQUENCE_LABEL:
            return (TensorSpec(name="logits", dtype="float32", shape=(BATCH, self.labels)),)
        if self.head is not Head.NONE:
            last = self.labels if self.head is Head.TOKEN_LABELS else self.vocabulary
            return (TensorSpec(name="logits", dtype="float32", shape=(BATCH, self.length, last)),)
        states = TensorSpec(name="last_hidden_state", dtype="float32", shape=(BATCH, self.length, self.width))
        pooled = TensorSpec(name="pooler_output", dtype="float32", shape=(BATCH, self.width))
        return (states, pooled) if self.pooled else (states,)

    @property
    def vocabularies(self) -> dict[str, int]:
        """Rows of the table that each id input indexes."""
        return {"input_ids": self.vocabulary, **({"token_type_ids": self.segments} if self.segments else {})}

    @property
    def length(self) -> int | str:
        """Symbol of the sequence, or the size of a model that cannot read the default length."""
        return SEQUENCE if self.longest >= DEFAULT_LENGTH else self.longest

    @property
    def task(self) -> TaskKind:
        return TASKS.get(self.head, TaskKind.GENERIC)

    def flops(self, *, batch: int, length: int) -> int:
        """Of one call: two per multiply-add of the matrix products, which are nearly all of an encoder's work."""
        per_layer = 2 * (4 * self.width**2 + 2 * self.width * self.inner) + 4 * length * self.width
        words = 2 * self.width * self.vocabulary if self.head is Head.MASKED_WORDS else 0
        return batch * length * (self.depth * per_layer + words)


def read_encoder(config: Mapping[str, Any], *, tensors: Iterable[str]) -> TextEncoder:
    """The encoder of a ``config.json``; ``tensors`` are the names of its stored weights, which tell whether it has a pooler.

    Raises InputError ``huggingface.architecture`` for one that is not in the table, ``huggingface.config`` for sizes that cannot be.
    """
    family, head, name = _class_of(config)
    keys = (family.width, family.depth, family.inner, family.heads, "vocab_size", "max_position_embeddings")
    sizes = {key: _size(config, key) for key in keys}
    may_pool = family.pooler and head is Head.NONE
    pooled = may_pool and any(one.endswith("pooler.dense.weight") for one in tensors)
    return TextEncoder(
        architecture=name, head=head, width=sizes[family.width], depth=sizes[family.depth], inner=sizes[family.inner],
        vocabulary=sizes["vocab_size"], longest=max(1, sizes["max_position_embeddings"] - family.reserved),
        labels=_labels(config), segments=_segments(config) if family.segments else 0, pooled=pooled,
        heads=sizes[family.heads], can_drop_pooler=may_pool,
    )  # fmt: skip


def _class_of(config: Mapping[str, Any]) -> tuple[Family, Head, str]:
    family = FAMILIES.get(str(config.get("model_type")))
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and len(named) == 1 else ""
    if family is not None and name.startswith(family.prefix):
        head = next((head for head in Head if name == family.prefix + head), None)
        if head is not None:
            return family, head, name
    known = ", ".join(f"{family.prefix}{Head.NONE}" for family in FAMILIES.values())
    raise InputError(
        "huggingface.architecture",
        f"The architecture {(name or str(config.get('model_type')))[:80]!r} is not supported yet. Supported are {known} and their "
        "forms for sequence classification, token classification and masked words; of others run "
        "'optimum-cli export onnx --model DIR out' and upload out/model.onnx.",
    )


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or not 1 <= value <= LARGEST_SIZE:
        raise InputError(
            "huggingface.config", f"config.json gives {str(value)[:40]!r} for {key!r}; save the model again with save_pretrained."
        )
    return value


def _segments(config: Mapping[str, Any]) -> int:
    """Kinds of segments; a model that knows one kind is not told which."""
    rows = _size(config, "type_vocab_size") if "type_vocab_size" in config else 2
    return rows if rows > 1 else 0


def _labels(config: Mapping[str, Any]) -> int:
    named = config.get("id2label")
    return len(named) if isinstance(named, dict) and named else 2
