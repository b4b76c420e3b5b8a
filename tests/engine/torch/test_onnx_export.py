"""The export to ONNX: the same numbers at every size, patterns that fuse, and a recipe that goes on from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from optimizer.backends import backend
from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import EngineError
from optimizer.formats import inspect_model
from optimizer.hardware import probe
from optimizer.passes import CONVERSIONS, PASSES, PassContext
from optimizer.passes.onnx_export import checked_feeds, made_up
from optimizer.passes.onnx_files import operators
from optimizer.rounding import all_agree
from optimizer.sandbox import ChildJob, Level, Sandbox
from optimizer.specs import BackendSettings, ModelCard
from tests import folders

EXPORT = CONVERSIONS["onnx_export"]
BOUND = {"batch": 2, "sequence": 24}
SHAPES = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (2, 24))


def context_of(entry: Path, work_dir: Path) -> PassContext:
    card = inspect_model(entry, bindings={key: size for key, size in BOUND.items() if key in inspect_model(entry).symbols})
    return PassContext(card=card, hardware=probe(benchmark=False), work_dir=work_dir, shapes=SHAPES)


@pytest.fixture(scope="module")
def exported(net: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    return EXPORT.apply(net, folder / "out", {}, context_of(net, folder)).entry


def test_the_export_gives_the_modules_numbers_at_every_size(net: Path, exported: Path) -> None:
    card = inspect_model(net)
    for batch, length in ((1, 1), (1, 256), (5, 3), (2, 16)):
        fed = made_up(card, batch=batch, length=length, seed=batch)
        ours = backend("pytorch").open(net, BackendSettings(threads=1)).run(fed)
        theirs = backend("onnxruntime").open(exported, BackendSettings(threads=1)).run(fed)
        assert all_agree(ours, theirs), (batch, length)


def test_the_export_is_the_model_that_was_planned_for(net: Path, exported: Path) -> None:
    card, planned = inspect_model(exported, bindings=BOUND), EXPORT.expected(inspect_model(net, bindings=BOUND))
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in card.inputs] == [
        (tensor.name, tensor.dtype, tensor.shape) for tensor in planned.inputs
    ]
    assert [tensor.name for tensor in card.outputs] == [tensor.name for tensor in planned.outputs]
    assert {name: card.operators[name] for name in ("MatMul", "Softmax", "Erf", "LayerNormalization")} == {
        name: planned.operators[name] for name in ("MatMul", "Softmax", "Erf", "LayerNormalization")
    }
    assert card.task is planned.task
    assert card.vocabularies == planned.vocabularies


def test_flops_of_the_configuration_are_those_of_the_graph(net: Path, exported: Path) -> None:
    """The configuration counts matrix products only; with 16 wide layers the rest of the graph weighs more than in a real one."""
    counted, graph = inspect_model(net, bindings=BOUND).flops, inspect_model(exported, bindings=BOUND).flops
    assert counted is not None
    assert graph is not None
    assert 0.5 < counted / graph <= 1


def test_attention_of_the_export_is_fused(exported: Path, tmp_path: Path) -> None:
    card = inspect_model(exported, bindings=BOUND)
    context = PassContext(card=card, hardware=probe(benchmark=False), work_dir=tmp_path, shapes=SHAPES)
    fused = PASSES["transformer_fusion"].apply(exported, tmp_path / "fused", {}, context)
    assert operators(onnx.load(fused.entry))["Attention"] == 2


def test_an_export_that_differs_is_thrown_away(net: Path, tmp_path: Path) -> None:
    """Weights that change between the trace and the comparison stand for an exporter that writes another network."""
    import shutil

    from optimizer.passes.errors import ChangedOutputs
    from optimizer.passes.onnx_export import _parity
    from optimizer.torch_models import load_encoder, load_torch

    other = tmp_path / "other"
    shutil.copytree(net.parent, other)
    folders.write_safetensors(other / "model.safetensors", folders.bert_weights(seed=1))
    context = context_of(net, tmp_path)
    entry = EXPORT.apply(net, tmp_path / "out", {}, context).entry
    encoder, module = load_encoder(other / "config.json")
    with pytest.raises(ChangedOutputs):
        _parity(load_torch(), module, entry, context, encoder.outputs)


def test_the_comparison_looks_at_padding_and_at_other_sizes_than_the_bound_ones(net: Path, tmp_path: Path) -> None:
    fed = list(checked_feeds(context_of(net, tmp_path)))
    assert {one["input_ids"].shape for one in fed} >= {(2, 24), (1, 1), (3, 7)}
    assert any(0 in one["attention_mask"] for one in fed)


@pytest.mark.parametrize(
    ("changes", "outputs"),
    [
        ({"model_type": "roberta", "architectures": ["RobertaModel"], "type_vocab_size": 1, "pad_token_id": 1}, 2),
        ({"model_type": "electra", "architectures": ["ElectraForSequenceClassification"], "embedding_size": 16}, 1),
        ({"model_type": "distilbert", "architectures": ["DistilBertModel"], "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}, 1),
        ({"architectures": ["BertForTokenClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}, 1),
        ({"architectures": ["BertForMaskedLM"]}, 1),
        ({"architectures": ["BertForSequenceClassification"], "max_position_embeddings": 40}, 1),
    ],
    ids=lambda one: one["architectures"][0] if isinstance(one, dict) else "",
)
def test_every_family_is_exported_as_the_library_runs_it(tmp_path: Path, changes: dict[str, object], outputs: int) -> None:
    entry = folders.made_by_the_library(tmp_path / "net", **changes)
    card = inspect_model(entry)
    work = context_of(entry, tmp_path)
    shapes = {tensor.name: tuple(BOUND.get(str(dim), dim) for dim in tensor.shape) for tensor in card.inputs}
    result = EXPORT.apply(entry, tmp_path / "out", {}, replace(work, shapes=shapes))
    assert result.facts["verified"]
    assert len(inspect_model(result.entry).outputs) == outputs == len(card.outputs)


def test_a_child_converts_and_goes_on_with_passes_of_the_new_format(net: Path, tmp_path: Path) -> None:
    steps = [{"name": "onnx_export", "params": {}}, {"name": "shape_specialisation", "params": {}}, {"name": "ort_basic", "params": {}}]
    context = context_of(net, tmp_path)
    params = {
        "entry": net.name,
        "passes": steps,
        "card": to_jsonable(context.card),
        "hardware": to_jsonable(context.hardware),
        "shapes": {name: list(shape) for name, shape in SHAPES.items()},
    }
    with Sandbox(root=tmp_path / "jobs", level=Level.C) as sandbox:
        outcome = sandbox.run(ChildJob(entry="optimizer.passes.child:apply_recipe", params=params, binds={"model": net.parent}))
    assert outcome.result is not None, outcome.failure
    card = from_jsonable(ModelCard, outcome.result["card"])
    assert (card.format, card.inputs[0].shape) == ("onnx", (2, 24))
    assert [sheet["pass"] for sheet in outcome.result["facts"]] == [step["name"] for step in steps]


def test_a_damaged_folder_ends_with_its_own_code(tmp_path: Path) -> None:
    folder = folders.encoder(tmp_path / "net")
    context = context_of(folder / "config.json", tmp_path)
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(EngineError) as refusal:
        EXPORT.apply(folder / "config.json", tmp_path / "out", {}, context)
    assert refusal.value.code == "safetensors.malformed"
