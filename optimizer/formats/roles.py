"""What each input of a model is for, judged by its name, dtype and shape: it decides default sizes and synthetic values."""

from __future__ import annotations

import re
from enum import StrEnum

from optimizer.specs import ModelCard, TensorSpec

IMAGE_CHANNELS = frozenset({1, 3, 4})


class InputRole(StrEnum):
    """Kinds of inputs that need different values."""

    TOKENS = "tokens"
    MASK = "mask"
    SEGMENTS = "segments"
    POSITIONS = "positions"
    STATE = "state"
    IMAGE_NCHW = "image_nchw"
    IMAGE_NHWC = "image_nhwc"
    AUDIO = "audio"
    SAMPLE_RATE = "sample_rate"
    LENGTH = "length"
    INTEGER = "integer"
    FLAG = "flag"
    NUMBER = "number"
    TEXT = "text"
    UNFEEDABLE = "unfeedable"

    @property
    def is_image(self) -> bool:
        return self in (InputRole.IMAGE_NCHW, InputRole.IMAGE_NHWC)


INTEGER_NAMES: tuple[tuple[re.Pattern[str], InputRole], ...] = (
    (re.compile(r"mask"), InputRole.MASK),
    (re.compile(r"token_?type|segment|type_ids"), InputRole.SEGMENTS),
    (re.compile(r"pos(ition)?(_|s$|$|ids)"), InputRole.POSITIONS),
    (re.compile(r"^sr$|sample_?rate|sampling_?rate"), InputRole.SAMPLE_RATE),
    (re.compile(r"len(gth)?s?$|_len_"), InputRole.LENGTH),
    (re.compile(r"ids?$|token|phoneme|text|words?$|codes?$"), InputRole.TOKENS),
)
AUDIO_NAME = re.compile(r"audio|wav|speech|signal|pcm|samples|mel|spec")
FEEDABLE_FLOATS = frozenset({"float16", "float32", "float64"})
INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})


def role_of(card: ModelCard, tensor: TensorSpec) -> InputRole:
    """The role of one input of the card."""
    if tensor.name in {source for source, _ in card.state_pairs}:
        return InputRole.STATE
    if tensor.dtype == "bool":
        return InputRole.MASK if "mask" in tensor.name.lower() else InputRole.FLAG
    if tensor.dtype == "string":
        return InputRole.TEXT
    if tensor.dtype in INTEGERS:
        return _integer_role(card, tensor)
    return _float_role(tensor) if tensor.dtype in FEEDABLE_FLOATS else InputRole.UNFEEDABLE


def _integer_role(card: ModelCard, tensor: TensorSpec) -> InputRole:
    if tensor.dtype == "uint8" and _image_role(tensor) is not None:
        return _image_role(tensor) or InputRole.INTEGER
    name = tensor.name.lower()
    named = next((role for pattern, role in INTEGER_NAMES if pattern.search(name)), None)
    if named is InputRole.TOKENS and not tensor.shape:
        return InputRole.INTEGER
    if named is not None:
        return named
    return InputRole.TOKENS if tensor.name in card.vocabularies else InputRole.INTEGER


def _float_role(tensor: TensorSpec) -> InputRole:
    image = _image_role(tensor)
    if image is not None:
        return image
    name = tensor.name.lower()
    if "mask" in name:
        return InputRole.MASK
    if AUDIO_NAME.search(name) and len(tensor.shape) in (1, 2, 3):
        return InputRole.AUDIO
    return InputRole.NUMBER


def _image_role(tensor: TensorSpec) -> InputRole | None:
    """NCHW or NHWC for rank 4, by where a channel count stands and which dims are small."""
    if len(tensor.shape) != 4:
        return None
    second, last = tensor.shape[1], tensor.shape[3]
    if second in IMAGE_CHANNELS and not (last in IMAGE_CHANNELS and isinstance(tensor.shape[2], int) and tensor.shape[2] > 4):
        return InputRole.IMAGE_NCHW
    return InputRole.IMAGE_NHWC if last in IMAGE_CHANNELS else None
