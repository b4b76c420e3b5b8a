"""Weights stored in eight and four bits: what is packed, how far the outputs move, and when it is not offered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import EngineError
from optimizer.formats import inspect_model
from optimizer.passes import PASSES, No, Yes
from optimizer.specs import PassStep
from tests import samples
from tests.engine.passes import models

HOST = models.HOST
FEEDS = models.normal_feeds("x", (1, 256))
BACKEND_OF = {"weight_only": "onnxruntime", "openvino_weight_only": "openvino"}
every_weight_only = pytest.mark.parametrize("name", BACKEND_OF)


def wide(path: Path) -> Path:
    return samples.products(path, width=256, layers=3)


def packed(folder: Path, name: str, *, bits: int) -> tuple[Path, dict[str, object]]:
    (folder / "source").mkdir(parents=True)
    model = wide(folder / "source" / "model.onnx")
    context = models.context_for(model, FEEDS, folder / "work", hardware=HOST)
    result = PASSES[name].apply(model, folder / "out", {"bits": bits}, context)
    return result.entry, result.facts


def error_of(folder: Path, name: str, *, bits: int) -> float:
    """Noise over signal of the packed model's outputs."""
    entry, facts = packed(folder, name, bits=bits)
    assert facts["packed"]
    ours = np.stack([one[0] for one in models.outputs_of(folder / "source" / "model.onnx", FEEDS)])
    theirs = np.stack([one[0] for one in models.outputs_of(entry, FEEDS, name=BACKEND_OF[name])])
    return float(((ours - theirs) ** 2).sum() / (ours**2).sum())


@every_weight_only
def test_fewer_bits_make_smaller_files_and_larger_errors(tmp_path: Path, name: str) -> None:
    sizes = {bits: packed(tmp_path / f"size{bits}", name, bits=bits)[1]["bytes_after"] for bits in (8, 4)}
    whole = wide(tmp_path / "whole.onnx").stat().st_size
    assert sizes[4] < 0.75 * sizes[8] < 0.75 * 0.4 * whole
    eight, four = (error_of(tmp_path / f"error{bits}", name, bits=bits) for bits in (8, 4))
    assert 0 < eight < 1e-2
    assert 4 * eight < four < 0.3


@every_weight_only
def test_it_is_offered_only_where_weights_make_traffic(tmp_path: Path, name: str) -> None:
    card = replace(inspect_model(wide(tmp_path / "model.onnx")), weight_bytes=50_000_000)
    assert isinstance(PASSES[name].applicable(card, HOST), Yes)
    assert PASSES[name].variants(card, HOST)[0].params["bits"] == 8
    for refused in (replace(card, weight_bytes=10_000), replace(card, quantized=True), replace(card, operators={"Conv": 3})):
        assert isinstance(PASSES[name].applicable(refused, HOST), No)


def test_products_without_constant_weights_are_left_alone(tmp_path: Path) -> None:
    model = samples.products(tmp_path / "model.onnx", width=64, layers=0)
    context = models.context_for(model, models.normal_feeds("x", (1, 64)), tmp_path / "work", hardware=HOST)
    with pytest.raises(EngineError) as refusal:
        PASSES["weight_only"].apply(model, tmp_path / "out", PassStep(name="weight_only").params, context)
    assert refusal.value.code == "pass.no_change"
