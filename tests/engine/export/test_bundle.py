"""Bundles: what is inside, that equal content gives equal bytes, and that names from a file cannot become code."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from optimizer.errors import EngineFault
from optimizer.export import BundleContent, bundle_trial, write_bundle
from optimizer.export.samples import Artifact, make_samples
from optimizer.formats import inspect_model
from optimizer.hardware import probe
from optimizer.sandbox import Level, Sandbox
from optimizer.search.problem import SearchProblem
from optimizer.specs import BackendSettings, PassStep, Precision, Recipe, SearchSpec, Stage, StageReport, TensorSpec
from tests.engine.export.bundles import COMPILED, COMPILED_BATCHES, PLAIN, PLAIN_BATCHES, input_set, tiny_content
from tests.samples import mlp

COMMON = {
    "Dockerfile", "README.txt", "manifest.json", "measurements.json", "model/model.onnx", "recipe.json", "requirements.txt",
    "samples/inputs.npz", "samples/outputs.npz", "serve.py",
}  # fmt: skip


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> BundleContent:
    return tiny_content(tmp_path_factory.mktemp("tiny"), starts_ms=(1.0, 1.1))


def members(content: BundleContent, target: Path) -> dict[str, bytes]:
    write_bundle(content, target)
    with zipfile.ZipFile(target) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_bundle_holds_all_that_it_takes_to_run_and_to_check_it(content: BundleContent, tmp_path: Path) -> None:
    found = members(content, tmp_path / "b.zip")
    assert set(found) == COMMON | {"triton/make.sh", "triton/model/config.pbtxt"}
    described, recorded = json.loads(found["recipe.json"]), json.loads(found["measurements.json"])
    assert described["entry"] == "model/model.onnx"
    assert described["session"]["config"] == {"session.intra_op.allow_spinning": "0"}
    assert recorded["decision"] == "winner"
    assert recorded["start_latencies_p50_ms"] == [1.0, 1.1]
    assert recorded["environment"]["cores"] >= 1
    assert f"onnxruntime=={onnxruntime.__version__}" in found["requirements.txt"].decode().splitlines()
    assert "intra_op_num_threads = 1" in found["README.txt"].decode()


def test_an_openvino_recipe_gets_its_own_servers_configuration(content: BundleContent, tmp_path: Path) -> None:
    found = members(replace(content, recipe=COMPILED), tmp_path / "b.zip")
    assert set(found) == COMMON | {"ovms/make.sh", "ovms/config.json"}
    served = json.loads(found["ovms/config.json"])["model_config_list"][0]["config"]
    assert served["shape"] == {"x": "(1,16)"}
    assert served["plugin_config"]["INFERENCE_PRECISION_HINT"] == "f32"
    assert b"openvino==" in found["requirements.txt"]


def test_servers_are_configured_for_the_streams_and_batches_that_were_measured(content: BundleContent, tmp_path: Path) -> None:
    found = members(replace(content, recipe=PLAIN_BATCHES), tmp_path / "b.zip")
    triton = found["triton/model/config.pbtxt"].decode()
    for line in ("max_batch_size: 4", "preferred_batch_size: [ 4 ]", "count: 2 kind: KIND_CPU", "dims: [ 16 ]"):
        assert line in triton
    assert 'key: "intra_op_thread_count" value { string_value: "1" }' in triton
    assert "2 calls at once" in found["README.txt"].decode()
    assert "batch 4" in found["README.txt"].decode()
    found = members(replace(content, recipe=COMPILED_BATCHES), tmp_path / "c.zip")
    served = json.loads(found["ovms/config.json"])["model_config_list"][0]["config"]
    assert (served["shape"], served["nireq"], served["plugin_config"]["NUM_STREAMS"]) == ({"x": "(4,16)"}, 2, "2")
    assert '"x": [4, 16]' in found["README.txt"].decode()


@pytest.mark.parametrize(("backend", "compiles"), [("pytorch", False), ("torch_compile", True)])
def test_a_pytorch_recipe_says_how_to_load_it_and_what_cannot_serve_it(
    content: BundleContent, tmp_path: Path, backend: str, compiles: bool
) -> None:
    recipe = Recipe(backend=backend, settings=BackendSettings(threads=3, precision=Precision.BF16))
    found = members(replace(content, recipe=recipe, entry="config.json"), tmp_path / "b.zip")
    assert set(found) == COMMON - {"serve.py", "Dockerfile"}
    notes = found["README.txt"].decode()
    code = textwrap.dedent(notes.split("Load it with Python:")[1])
    ast.parse(code)
    assert "torch.set_num_threads(3)" in code
    assert "torch.bfloat16" in code
    assert ("torch.compile(" in code) == compiles
    assert "serve.py and Dockerfile: left out" in notes


def test_the_samples_are_what_the_runtime_answers(content: BundleContent) -> None:
    session = onnxruntime.InferenceSession(content.model_dir / content.entry, providers=["CPUExecutionProvider"])
    with np.load(content.samples.folder / "inputs.npz") as inputs, np.load(content.samples.folder / "outputs.npz") as outputs:
        assert len(outputs.files) == content.samples.n == 8
        for number in range(content.samples.n):
            np.testing.assert_allclose(outputs[f"0/{number}"], session.run(None, {"x": inputs["x"][number]})[0], rtol=1e-5)


def test_large_examples_make_few_samples(tmp_path: Path) -> None:
    width = 300_000
    (tmp_path / "model").mkdir()
    mlp(tmp_path / "model" / "model.onnx", width=width, hidden=2)
    inputs = input_set(tmp_path / "inputs", {"x": np.zeros((6, 1, width), np.float32)})
    artifact = Artifact(folder=tmp_path / "model", entry="model.onnx", recipe=PLAIN)
    with Sandbox(root=tmp_path / "children", level=Level.C) as sandbox:
        samples = make_samples(artifact, inputs=inputs, indices=range(6), sandbox=sandbox, root=tmp_path / "samples")
    assert samples.n == (4 << 20) // (4 * width)


def test_equal_content_gives_equal_bytes_whenever_it_is_written(content: BundleContent, tmp_path: Path) -> None:
    first = write_bundle(content, tmp_path / "a.zip")
    os.utime(content.model_dir / "model.onnx", (1, 1))
    second = write_bundle(content, tmp_path / "b.zip")
    assert first.sha256 == second.sha256
    assert write_bundle(replace(content, recipe=COMPILED), tmp_path / "c.zip").sha256 != first.sha256


@pytest.mark.parametrize("recipe", [PLAIN, COMPILED])
def test_the_instructions_are_code_that_compiles(content: BundleContent, tmp_path: Path, recipe: Recipe) -> None:
    hostile = {'x"]); import os; os.system("rm -rf /") #\n': (1, 16)}
    readme = members(replace(content, recipe=recipe, shapes=hostile), tmp_path / "b.zip")["README.txt"].decode()
    code = "\n".join(line[4:] for line in readme.partition("Load it with Python:")[2].splitlines())
    compile(code, "readme", "exec")
    assert "os.system" not in code.replace('"x\\"]); import os; os.system(\\"rm -rf /\\") #\\n"', "")


def test_a_name_from_the_file_stays_one_string_in_tritons_configuration(content: BundleContent, tmp_path: Path) -> None:
    hostile = TensorSpec(name='x" data_type: TYPE_FP64 } ]\n#é', dtype="float32", shape=(None, 16))
    samples = replace(content.samples, inputs=(hostile,))
    config = members(replace(content, samples=samples), tmp_path / "b.zip")["triton/model/config.pbtxt"].decode()
    line = next(line for line in config.splitlines() if line.startswith("input"))
    assert line == r'input [ { name: "x\042 data_type: TYPE_FP64 } ]\012#\303\251" data_type: TYPE_FP32 dims: [ -1, 16 ] } ]'


def test_the_repository_script_lays_out_version_one_without_a_second_copy(content: BundleContent, tmp_path: Path) -> None:
    write_bundle(content, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "b")
    for _ in range(2):
        subprocess.run(["sh", str(tmp_path / "b/triton/make.sh")], check=True, timeout=60)
    laid = tmp_path / "b/triton/model/1/model.onnx"
    assert laid.samefile(tmp_path / "b/model/model.onnx")


def test_passes_that_olive_knows_become_its_configuration_in_their_order(content: BundleContent, tmp_path: Path) -> None:
    steps = (PassStep(name="transformer_fusion"), PassStep(name="static_int8", params={"activation": "int8", "per_channel": False}))
    olive = json.loads(members(replace(content, recipe=replace(PLAIN, passes=steps)), tmp_path / "b.zip")["olive.json"])
    assert [one["type"] for one in olive["passes"].values()] == ["OrtTransformersOptimization", "OnnxStaticQuantization"]
    static = olive["passes"]["static_int8"]
    assert (static["activation_type"], static["per_channel"], static["precision"]) == ("int8", False, "int8")
    assert olive["data_configs"][0]["load_dataset_config"]["input_shapes"] == [[1, 16]]


def test_a_pass_that_olive_lacks_is_named_instead(content: BundleContent, tmp_path: Path) -> None:
    steps = (PassStep(name="simplify"), PassStep(name="dynamic_int8"))
    found = members(replace(content, recipe=replace(PLAIN, passes=steps)), tmp_path / "b.zip")
    assert "olive.json" not in found
    assert "Olive has no pass that does the same as simplify" in found["README.txt"].decode()


@pytest.fixture
def problem(content: BundleContent, tmp_path: Path) -> SearchProblem:
    shutil.copytree(content.model_dir, tmp_path / "upload")
    inputs = input_set(tmp_path / "all", {"x": np.ones((4, 1, 16), np.float32)})
    (inputs.folder / "examples.json").write_text(json.dumps([f"{number:064x}" for number in range(4)]))
    return SearchProblem(
        model_dir=tmp_path / "upload", entry="model.onnx", card=inspect_model(tmp_path / "upload" / "model.onnx"), spec=SearchSpec(),
        hardware=probe(benchmark=False), inputs=inputs, workspace=tmp_path,
    )  # fmt: skip


def test_a_trial_without_passes_is_bundled_from_the_upload(problem: SearchProblem, tmp_path: Path) -> None:
    reports = [StageReport(trial=0, stage=Stage.BUILD, recipe=PLAIN)]
    with Sandbox(root=tmp_path / "children", level=Level.C) as sandbox:
        found = bundle_trial(0, problem=problem, reports=reports, sandbox=sandbox, target=tmp_path / "b.zip")
    assert found.role == "bundle"
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert archive.read("model/model.onnx") == (problem.model_dir / "model.onnx").read_bytes()
        assert json.loads(archive.read("measurements.json"))["start_latencies_p50_ms"] == []


def test_a_build_that_is_gone_is_said(problem: SearchProblem, tmp_path: Path) -> None:
    recipe = Recipe(backend="openvino", passes=(PassStep(name="simplify"),))
    reports = [StageReport(trial=3, stage=Stage.BUILD, recipe=recipe, detail={"build_key": "0" * 64})]
    with Sandbox(root=tmp_path / "children", level=Level.C) as sandbox:
        for trial in (3, 4):
            with pytest.raises(EngineFault) as lost:
                bundle_trial(trial, problem=problem, reports=reports, sandbox=sandbox, target=tmp_path / "b.zip")
            assert lost.value.code == "build.lost"


def test_nothing_half_written_is_left_behind(content: BundleContent, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_bundle(replace(content, summary={"bad": float("nan")}), tmp_path / "out" / "b.zip")
    assert list((tmp_path / "out").iterdir()) == []


def test_reduced_precision_is_stated_to_the_server(content: BundleContent, tmp_path: Path) -> None:
    settings = BackendSettings(threads=1, precision=Precision.BF16, extra={"SCHEDULING_CORE_TYPE": "ANY_CORE"})
    found = members(replace(content, recipe=Recipe(backend="openvino", settings=settings)), tmp_path / "b.zip")
    stated = json.loads(found["recipe.json"])["session"]["properties"]
    assert (stated["INFERENCE_PRECISION_HINT"], stated["SCHEDULING_CORE_TYPE"]) == ("bf16", "ANY_CORE")
