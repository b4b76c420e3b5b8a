"""Proxy inputs: shipped real text and images, given the form that a model's inputs ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizer.formats.ocr import ocr_stage
from optimizer.formats.roles import InputRole, role_of
from optimizer.measure import corpora
from optimizer.measure.pictures import MIN_SIDE, crops
from optimizer.measure.rendered_text import pages, text_lines
from optimizer.measure.synthetic import Shapes, steering_value
from optimizer.specs import ModelCard, TensorSpec

Array = np.ndarray[Any, Any]
TEXT_ROLES = frozenset({InputRole.TOKENS, InputRole.MASK, InputRole.SEGMENTS, InputRole.POSITIONS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Examples of a corpus that fits, or None and why there is none."""

    description: str
    examples: Iterator[Mapping[str, Array]] | None = None


def proxy_for(card: ModelCard, shapes: Shapes, *, seed: int) -> Proxy:
    """The shipped corpus that fits the inputs; when none does, ``description`` is the sentence that says what to do."""
    roles = {tensor.name: role_of(card, tensor) for tensor in card.inputs}
    data = [tensor for tensor in card.inputs if steering_value(card, tensor, shapes) is None]
    if len(data) == 1 and roles[data[0].name] is InputRole.TOKENS and set(roles.values()) <= TEXT_ROLES:
        return _text(card, shapes, tokens=data[0])
    if len(data) == 1 and roles[data[0].name].is_image:
        return _images(card, shapes, tensor=data[0], role=roles[data[0].name], seed=seed)
    return Proxy(description="No shipped corpus fits the model's inputs; upload real inputs as an .npz dataset to judge reduced precision.")


def _absent(what: str) -> Proxy:
    return Proxy(
        description=f"Install {corpora.EXTRA} to test on {what} instead of random values, or upload real inputs as an .npz dataset."
    )  # fmt: skip


def _text(card: ModelCard, shapes: Shapes, *, tokens: TensorSpec) -> Proxy:
    lines, vocabulary = corpora.sentences(), corpora.tokenizer_file()
    if not lines or vocabulary is None:
        return _absent("real sentences")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(vocabulary))
    rows = card.vocabularies.get(tokens.name)
    shape = shapes[tokens.name]
    if rows != tokenizer.get_vocab_size():
        known = f"{rows:,} entries" if rows else "unknown size"
        return Proxy(
            description=f"The model's vocabulary has {known}, the shipped tokenizer's {tokenizer.get_vocab_size():,}; "
            "upload tokenised inputs as an .npz dataset to judge reduced precision."
        )
    masks = [tensor for tensor in card.inputs if role_of(card, tensor) is InputRole.MASK]
    if len(shape) != 2 or any(shapes[mask.name] != shape for mask in masks):
        return Proxy(description="The model's token inputs have an unusual shape; upload tokenised inputs as an .npz dataset.")
    return Proxy(
        description="sentences of the Lee news corpus, BERT uncased vocabulary",
        examples=_tokenised(card, shapes, tokens=tokens, lines=_passages(lines, shape, masked=bool(masks)), tokenizer=tokenizer),
    )


def _passages(lines: tuple[str, ...], shape: tuple[int, ...], *, masked: bool) -> list[str]:
    """Sentences; without a mask, passages long enough to fill the sequence, for padding would count as text."""
    if masked:
        return list(lines)
    size = max(1, -(-shape[1] // 8))
    return [" ".join(lines[start : start + size]) for start in range(len(lines) - size + 1)]


def _tokenised(card: ModelCard, shapes: Shapes, *, tokens: TensorSpec, lines: list[str], tokenizer: Any) -> Iterator[dict[str, Array]]:
    """Examples of ``shape[0]`` sentences each, cut and padded to ``shape[1]``; repeats and short unmasked ones are left out."""
    batch, length = shapes[tokens.name]
    tokenizer.enable_truncation(max_length=length)
    tokenizer.enable_padding(length=length)
    seen: set[tuple[int, ...]] = set()
    masked = any(role_of(card, tensor) is InputRole.MASK for tensor in card.inputs)
    kept: list[Any] = []
    for encoding in (tokenizer.encode(line) for line in lines):
        key = tuple(encoding.ids)
        if key in seen or (not masked and not all(encoding.attention_mask)):
            continue
        seen.add(key)
        kept.append(encoding)
        if len(kept) == batch:
            yield {tensor.name: _text_value(card, tensor, shapes, kept) for tensor in card.inputs}
            kept = []


def _text_value(card: ModelCard, tensor: TensorSpec, shapes: Shapes, encodings: list[Any]) -> Array:
    role = role_of(card, tensor)
    if role is InputRole.TOKENS:
        return np.array([encoding.ids for encoding in encodings], tensor.dtype)
    if role is InputRole.MASK:
        mask = np.array([encoding.attention_mask for encoding in encodings])
        return (1 - mask if "padding" in tensor.name.lower() else mask).astype(tensor.dtype)
    value = steering_value(card, tensor, shapes)
    return np.zeros(shapes[tensor.name], tensor.dtype) if value is None else value


def _images(card: ModelCard, shapes: Shapes, *, tensor: TensorSpec, role: InputRole, seed: int) -> Proxy:
    shape = shapes[tensor.name]
    channels_last = role is InputRole.IMAGE_NHWC
    height, width, channels = shape[1:] if channels_last else (shape[2], shape[3], shape[1])
    stage = ocr_stage(card)
    if stage is not None and corpora.can_render() and corpora.sentences():
        made = pages(height, width, seed=seed) if stage == "detect" else text_lines(card, stage, height, width, seed=seed)
        source = "pages" if stage == "detect" else "lines"
        return Proxy(
            description=f"rendered {source} of text from the Lee news corpus",
            examples=_shaped(card, shapes, tensor=tensor, images=made, channels_last=channels_last),
        )
    if channels not in (1, 3) or min(height, width) < MIN_SIDE:
        return Proxy(description="No shipped pictures fit the model's input size; upload real inputs as an .npz dataset.")
    if not corpora.pictures():
        return _absent("real pictures")
    made = crops(height, width, channels=channels, raw=tensor.dtype == "uint8", seed=seed)
    return Proxy(
        description="crops of scikit-image's sample pictures",
        examples=_shaped(card, shapes, tensor=tensor, images=made, channels_last=channels_last),
    )


def _shaped(
    card: ModelCard, shapes: Shapes, *, tensor: TensorSpec, images: Iterator[Array], channels_last: bool
) -> Iterator[dict[str, Array]]:
    """Examples of as many images [height, width, channels] as the batch in the layout and dtype of the input."""
    others = {other.name: steering_value(card, other, shapes) for other in card.inputs if other.name != tensor.name}
    while True:
        stacked = np.stack([next(images) for _ in range(shapes[tensor.name][0])])
        placed = stacked if channels_last else stacked.transpose(0, 3, 1, 2)
        yield {tensor.name: placed.astype(tensor.dtype), **{name: value for name, value in others.items() if value is not None}}
