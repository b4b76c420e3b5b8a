"""Names come out of a file and may be anything: the card, the backends and the IR's reader read the same ones."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from optimizer.backends import backend
from optimizer.formats import inspect_model, prepare
from optimizer.specs import BackendSettings
from tests import samples

ONE_THREAD = BackendSettings(threads=1)
ODD = "ab0 .,:;/\\&<>\"'{}[]()%$#@!*?=+-_~`^|\t\nπд日🙂\u202e\u0301"
names = st.lists(st.text(ODD, min_size=1, max_size=12), min_size=2, max_size=2, unique=True)


def named(path: Path, source: str, target: str) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Neg", [source], [target])], "named", [samples.value(source, [2])], [samples.value(target, [2])]
    )
    return samples.save(graph, path)


@given(names)
@settings(max_examples=60, deadline=None)
def test_onnx_names_of_any_characters_are_read_and_fed(pair: list[str]) -> None:
    source, target = pair
    with TemporaryDirectory() as folder:
        model = named(Path(folder) / "m.onnx", source, target)
        card = inspect_model(model)
        assert ([one.name for one in card.inputs], [one.name for one in card.outputs]) == ([source], [target])
        session = backend("onnxruntime").open(model, ONE_THREAD, shapes={source: (2,)})
        assert session.run({source: np.array([1, 2], np.float32)})[0].tolist() == [-1, -2]


@given(names)
@settings(max_examples=25, deadline=None)
def test_the_names_of_an_ir_are_those_the_runtime_reads(pair: list[str]) -> None:
    openvino = pytest.importorskip("openvino")
    with TemporaryDirectory() as text:
        folder = Path(text)
        model = openvino.convert_model(str(named(folder / "m.onnx", *pair)))
        openvino.save_model(model, str(folder / "m.xml"), compress_to_fp16=False)
        entry = prepare(folder / "m.xml", folder / "flat", beside=True).entry
        card = inspect_model(entry)
        session = backend("openvino").open(entry, ONE_THREAD)
        assert [one.name for one in card.inputs] == [one.name for one in session.inputs]
        assert [one.name for one in card.outputs] == [one.name for one in session.outputs]
        assert session.run({card.inputs[0].name: np.array([1, 2], np.float32)})[0].tolist() == [-1, -2]
