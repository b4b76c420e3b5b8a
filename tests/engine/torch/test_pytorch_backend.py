"""The PyTorch backends: the library's own numbers, settings honoured or refused, broken folders told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.backends import BACKENDS, Available, Missing, backend
from optimizer.backends.base import Session
from optimizer.errors import EngineError
from optimizer.rounding import all_agree, signal_to_noise_db
from optimizer.specs import BackendSettings, Precision
from tests import folders

ONE_THREAD = BackendSettings(threads=1)
SHAPE = (2, 9)
SHAPES = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), SHAPE)
every_backend = pytest.mark.parametrize("name", [name for name, one in BACKENDS.items() if "huggingface" in one.formats])


def feeds(*, seed: int = 0, shape: tuple[int, int] = SHAPE) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    mask = np.ones(shape, np.int64)
    mask[-1, shape[1] // 2 + 1 :] = 0
    return {"input_ids": rng.integers(0, 64, shape), "attention_mask": mask, "token_type_ids": rng.integers(0, 2, shape)}


def usable(name: str) -> None:
    found = BACKENDS[name].availability()
    if isinstance(found, Missing) and name == "torch_compile":
        pytest.skip(found.reason)
    assert isinstance(found, Available)


def opened(name: str, entry: Path, settings: BackendSettings = ONE_THREAD) -> Session:
    usable(name)
    return backend(name).open(entry, settings, shapes=SHAPES)


def by_hand(weights: dict[str, np.ndarray[Any, Any]], fed: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The encoder in numpy, written from the paper (Devlin et al. 2019): what the outputs must be."""

    def linear(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-12) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return x.reshape(*x.shape[:2], 2, 8).transpose(0, 2, 1, 3)

    from scipy.special import erf, softmax

    length = fed["input_ids"].shape[1]
    words, places, kinds = (weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type"))
    x = norm("embeddings.LayerNorm", words[fed["input_ids"]] + places[:length] + kinds[fed["token_type_ids"]])
    hidden = np.where(fed["attention_mask"][:, None, None, :] == 1, 0, -np.inf)
    for layer in (0, 1):
        at = f"encoder.layer.{layer}"
        query, key, value = (heads(linear(f"{at}.attention.self.{part}", x)) for part in ("query", "key", "value"))
        mixed = softmax(query @ key.transpose(0, 1, 3, 2) / np.sqrt(8) + hidden, axis=-1) @ value
        x = norm(
            f"{at}.attention.output.LayerNorm", linear(f"{at}.attention.output.dense", mixed.transpose(0, 2, 1, 3).reshape(x.shape)) + x
        )
        inner = linear(f"{at}.intermediate.dense", x)
        x = norm(f"{at}.output.LayerNorm", linear(f"{at}.output.dense", inner * (1 + erf(inner / np.sqrt(2))) / 2) + x)
    return [x.astype(np.float32), np.tanh(linear("pooler.dense", x[:, 0])).astype(np.float32)]


@every_backend
def test_outputs_are_those_of_the_weights(net: Path, name: str) -> None:
    session = opened(name, net)
    assert [tensor.name for tensor in session.outputs] == ["last_hidden_state", "pooler_output"]
    for seed in range(3):
        fed = feeds(seed=seed)
        answer = session.run(fed)
        assert all(one.dtype == np.float32 for one in answer)
        assert all_agree(by_hand(folders.bert_weights(), fed), answer)


@every_backend
def test_outputs_of_one_run_survive_the_next(net: Path, name: str) -> None:
    session = opened(name, net)
    first = session.run(feeds())[0]
    kept = first.copy()
    session.run(feeds(seed=5))
    np.testing.assert_array_equal(first, kept)


@every_backend
def test_bf16_is_really_computed_and_says_so(net: Path, name: str) -> None:
    exact = opened(name, net).run(feeds())[0]
    session = opened(name, net, BackendSettings(threads=1, precision=Precision.BF16))
    reduced = session.run(feeds())[0]
    assert session.facts()["precision"] == "bf16"
    assert reduced.dtype == np.float32
    assert 10 < signal_to_noise_db(exact, reduced) < 60


@every_backend
def test_facts_say_what_really_runs(net: Path, name: str) -> None:
    facts = opened(name, net).facts()
    assert facts["runtime"].startswith(f"{name} 2.")
    assert (facts["threads"], facts["precision"], facts["compiled"]) == (1, "f32", name == "torch_compile")


@every_backend
@pytest.mark.parametrize(
    "settings",
    [
        BackendSettings(device="GPU"),
        BackendSettings(provider="CUDA"),
        BackendSettings(precision=Precision.F16),
        BackendSettings(streams=2),
        BackendSettings(spinning=False),
        BackendSettings(extra={"a": "1"}),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused(net: Path, name: str, settings: BackendSettings) -> None:
    with pytest.raises(EngineError) as refusal:
        backend(name).open(net, settings)
    assert refusal.value.code == "backend.setting_refused"


@every_backend
def test_a_closed_session_does_not_run(net: Path, name: str) -> None:
    session = opened(name, net)
    session.close()
    with pytest.raises(EngineError):
        session.run(feeds())


def test_a_missing_feed_is_named(net: Path) -> None:
    fed = feeds()
    del fed["attention_mask"]
    with pytest.raises(EngineError) as refusal:
        opened("pytorch", net).run(fed)
    assert refusal.value.code == "backend.input_refused"
    assert "attention_mask" in refusal.value.message


def test_a_token_beyond_the_vocabulary_fails_while_running(net: Path) -> None:
    fed = feeds()
    fed["input_ids"][0, 0] = 64
    with pytest.raises(EngineError) as failure:
        opened("pytorch", net).run(fed)
    assert failure.value.code == "backend.run_failed"


def test_weights_that_would_be_made_up_are_refused(tmp_path: Path) -> None:
    folder = folders.encoder(tmp_path / "model")
    weights = folders.bert_weights()
    del weights["encoder.layer.1.output.dense.weight"]
    folders.write_safetensors(folder / "model.safetensors", weights)
    with pytest.raises(EngineError) as refusal:
        opened("pytorch", folder / "config.json")
    assert refusal.value.code == "backend.load_failed"
    assert "encoder.layer.1.output.dense.weight" in refusal.value.message


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = folders.encoder(tmp_path / "model", hidden_size=32)
    with pytest.raises(EngineError) as refusal:
        opened("pytorch", folder / "config.json")
    assert refusal.value.code == "backend.load_failed"


def test_an_encoder_without_a_pooler_is_opened_without_one(tmp_path: Path) -> None:
    folder = folders.encoder(tmp_path / "model")
    weights = {name: value for name, value in folders.bert_weights().items() if not name.startswith("pooler")}
    folders.write_safetensors(folder / "model.safetensors", weights)
    session = opened("pytorch", folder / "config.json")
    assert [tensor.name for tensor in session.outputs] == ["last_hidden_state"]
    assert all_agree(by_hand(folders.bert_weights(), feeds())[:1], session.run(feeds()))


def test_code_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    folder = folders.encoder(tmp_path / "model")
    marker = tmp_path / "ran"
    (folder / "modeling_acme.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "modeling_acme.Acme"}}))
    with pytest.raises(EngineError) as refusal:
        opened("pytorch", folder / "config.json")
    assert refusal.value.code == "model.code_disabled"
    assert not marker.exists()
