"""``serve.py`` as shipped, in a process of its own on loopback, where the engine cannot be imported."""

from __future__ import annotations

import http.client
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from onnx import helper, numpy_helper

from optimizer.export import serve
from optimizer.specs import Recipe
from tests.engine.export.bundles import COMPILED, COMPILED_BATCHES, COMPILED_CACHED, PLAIN, PLAIN_BATCHES, PLAIN_CACHED, tiny_bundle
from tests.samples import save, value

LIMIT = 100_000


def unpacked(folder: Path, recipe: Recipe) -> Path:
    with zipfile.ZipFile(tiny_bundle(folder, recipe)) as archive:
        archive.extractall(folder / "bundle")
    return folder / "bundle"


def isolated(root: Path, *arguments: str) -> list[str]:
    """Python without our paths (-I) and with every import of the engine turned into a failure."""
    code = (
        "import runpy, sys; sys.modules['optimizer'] = None; sys.modules['parka'] = None; "
        f"sys.argv = ['serve.py', *{arguments!r}]; runpy.run_path({str(root / 'serve.py')!r}, run_name='__main__')"
    )
    return [sys.executable, "-I", "-c", code]


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The address of the running server."""
    command = isolated(root, "--port", "0", "--max-bytes", str(LIMIT))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield urlsplit(process.stdout.readline().split()[-1]).netloc
        finally:
            process.kill()


@pytest.fixture(scope="module", params=[PLAIN, COMPILED], ids=["onnxruntime", "openvino"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = unpacked(tmp_path_factory.mktemp("served"), request.param)
    with served(root) as address:
        yield address, root


def ask(address: str, method: str, path: str, *, body: bytes | None = None, kind: str = "application/json") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_health_tells_inputs_and_outputs(server: tuple[str, Path]) -> None:
    status, body = ask(server[0], "GET", "/health")
    told = json.loads(body)
    assert status == 200
    assert [one["name"] for one in told["inputs"]] == ["x"]
    assert [one["name"] for one in told["outputs"]] == ["y"]


def test_both_forms_give_the_expected_outputs(server: tuple[str, Path]) -> None:
    address, root = server
    with np.load(root / "samples/inputs.npz") as inputs, np.load(root / "samples/outputs.npz") as outputs:
        for number in range(3):
            x, expected = inputs["x"][number], outputs[f"0/{number}"]
            status, body = ask(address, "POST", "/infer", body=json.dumps({"inputs": {"x": x.tolist()}}).encode())
            assert status == 200
            np.testing.assert_allclose(json.loads(body)["outputs"]["y"], expected, rtol=1e-5)
            status, body = ask(address, "POST", "/infer", body=npz(x=x), kind="application/octet-stream")
            assert status == 200
            with np.load(io.BytesIO(body)) as found:
                np.testing.assert_allclose(found["y"], expected, rtol=1e-5)


def bomb() -> bytes:
    """Zeros far above the limit that pack to far below it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros(LIMIT, np.float32))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("path", "kind", "body", "status", "code"),
    [
        ("/nowhere", "application/json", b"{}", 404, "path.unknown"),
        ("/infer", "text/plain", b"1", 415, "input.type"),
        ("/infer", "application/json", b"{", 400, "input.malformed"),
        ("/infer", "application/json", b'{"inputs": {"x": "text"}}', 400, "input.malformed"),
        ("/infer", "application/json", b"[" * 50_000, 400, "input.malformed"),
        ("/infer", "application/json", b'{"inputs": {"y": [1]}}', 400, "input.names"),
        ("/infer", "application/json", b'{"inputs": {"x": [[1, 2]]}}', 400, "input.refused"),
        ("/infer", "application/json", b" " * (LIMIT + 1), 413, "input.too_large"),
        ("/infer", "application/octet-stream", b"no zip", 400, "input.malformed"),
        ("/infer", "application/octet-stream", bomb(), 413, "input.too_large"),
        ("/infer", "application/octet-stream", npz(x=np.array([[None]])), 400, "input.malformed"),
        ("/infer", "application/octet-stream", npz(x=np.zeros((1, 16), np.float64)), 400, "input.refused"),
    ],
)
def test_a_bad_request_is_told_its_code_and_the_server_lives_on(
    server: tuple[str, Path], path: str, kind: str, body: bytes, status: int, code: str
) -> None:
    found, answer = ask(server[0], "POST", path, body=body, kind=kind)
    assert (found, json.loads(answer)["code"]) == (status, code)
    assert ask(server[0], "GET", "/health")[0] == 200


def test_numbers_that_json_lacks_are_offered_as_npz(server: tuple[str, Path]) -> None:
    address, root = server
    if json.loads((root / "recipe.json").read_text())["session"]["runtime"] == "openvino":
        pytest.skip("this network's OpenVINO form swallows NaN")
    body = npz(x=np.full((1, 16), np.nan, np.float32))
    assert ask(address, "POST", "/infer", body=body, kind="application/octet-stream")[0] == 200
    status, answer = ask(address, "POST", "/infer", body=json.dumps({"inputs": {"x": [[float("nan")] * 16]}}).encode())
    assert (status, json.loads(answer)["code"]) == (422, "output.not_json")


def test_the_samples_are_checked_without_the_engine(server: tuple[str, Path], tmp_path: Path) -> None:
    _, root = server
    right = subprocess.run(isolated(root, "--check"), capture_output=True, text=True, timeout=120, check=False)
    assert (right.returncode, right.stderr) == (0, "")
    kept = (root / "samples/outputs.npz").read_bytes()
    with np.load(root / "samples/outputs.npz") as outputs:
        changed = {name: outputs[name] + 0.01 for name in outputs.files}
    try:
        with zipfile.ZipFile(root / "samples/outputs.npz", "w") as archive:
            for name, array in changed.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array)
        wrong = subprocess.run(isolated(root, "--check"), capture_output=True, text=True, timeout=120, check=False)
    finally:
        (root / "samples/outputs.npz").write_bytes(kept)
    assert wrong.returncode == 1
    assert "NOT as expected" in wrong.stdout


@pytest.mark.parametrize("recipe", [PLAIN_BATCHES, COMPILED_BATCHES], ids=["onnxruntime", "openvino"])
def test_a_server_of_batches_takes_any_number_of_examples(tmp_path: Path, recipe: Recipe) -> None:
    root = unpacked(tmp_path, recipe)
    with np.load(root / "samples/inputs.npz") as inputs, np.load(root / "samples/outputs.npz") as outputs:
        x = inputs["x"][:, 0]
        expected = np.concatenate([outputs[f"0/{number}"] for number in range(len(x))])
    with served(root) as address:
        for count in (1, 4, len(x) - 1):
            status, body = ask(address, "POST", "/infer", body=npz(x=x[:count]), kind="application/octet-stream")
            assert status == 200
            with np.load(io.BytesIO(body)) as found:
                np.testing.assert_allclose(found["y"], expected[:count], rtol=1e-4, atol=1e-6)
        status, body = ask(address, "POST", "/infer", body=npz(x=x[:0]), kind="application/octet-stream")
        assert (status, json.loads(body)["code"]) == (400, "input.refused")
    assert subprocess.run(isolated(root, "--check"), timeout=120, check=False).returncode == 0


def test_an_output_with_several_rows_an_example_is_cut_by_its_own_rows(tmp_path: Path) -> None:
    """``y`` [3n, 2] has three rows for each example of ``x`` [n, 6], ``z`` [n, 6] one."""
    shape = numpy_helper.from_array(np.array([-1, 2], np.int64), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    ends = [value("x", ["n", 6])], [value("y", ["m", 2]), value("z", ["n", 6])]
    save(helper.make_graph(nodes, "rows", *ends, initializer=[shape]), tmp_path / "model.onnx")
    plan = {"runtime": "onnxruntime", "batch": 2, "threads": 1, "streams": 1, "graph_level": "ORT_ENABLE_ALL", "config": {}}
    described = {
        "inputs": [{"name": "x"}],
        "outputs": [{"name": "y"}, {"name": "z"}],
        "entry": "model.onnx",
        "shapes": {"x": [1, 6]},
        "session": {**plan, "providers": [["CPUExecutionProvider", {}]], "start_cache": False},
    }
    (tmp_path / "recipe.json").write_text(json.dumps(described))
    model = serve.Model(tmp_path)
    for count in (1, 2, 3):
        x = np.arange(6 * count, dtype=np.float32).reshape(count, 6)
        found = model.infer({"x": x})
        np.testing.assert_array_equal(found["y"], x.reshape(-1, 2))
        np.testing.assert_array_equal(found["z"], -x)


@pytest.mark.parametrize("recipe", [PLAIN_CACHED, COMPILED_CACHED], ids=["onnxruntime", "openvino"])
def test_a_bundled_start_cache_is_used_here_and_left_alone_where_it_was_not_made(tmp_path: Path, recipe: Recipe) -> None:
    root = unpacked(tmp_path, recipe)
    stamp = root / "model/start-cache/stamp.json"
    for made_here in (True, False):
        if not made_here:
            told = json.loads(stamp.read_text())
            told["conditions"]["processor"] = "another"
            stamp.write_text(json.dumps(told))
        with served(root) as address:
            assert json.loads(ask(address, "GET", "/health")[1])["start_cache"] is made_here
        assert subprocess.run(isolated(root, "--check"), timeout=120, check=False).returncode == 0
