"""Serve the model of this bundle over HTTP, with exactly the settings it was measured with.

Needs Python, numpy and the runtime of requirements.txt; nothing else. `GET /health` tells the inputs and outputs. `POST /infer` takes
`{"inputs": {name: nested lists}}` as application/json, or an .npz with one array per input as application/octet-stream, and answers in
the same form. As many requests are computed at a time as were measured. A model that was measured with batches takes any number of
examples along the first axis and computes them in batches of that size. There is no authentication: put a proxy in front.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import io
import json
import os
import platform
import queue
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
JSON, NPZ = "application/json", "application/octet-stream"
MOST_BYTES = 64 << 20
IDLE_S = 30.0
CHECK_OF_SCALE = 1e-3
Arrays = dict[str, Any]


class Refused(Exception):
    """A request that cannot be answered: status, stable code, sentence."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Model:
    """The opened model; ``inputs`` and ``outputs`` are lists of ``{"name", "dtype", "shape"}``."""

    def __init__(self, folder: Path) -> None:
        described = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        self.inputs, self.outputs = described["inputs"], described["outputs"]
        openers = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}
        plan = described["session"]
        streams = openers[plan["runtime"]](folder / described["entry"], described)
        self.start_cache = described.get("start_cache_used", False)
        self._batch, self._shapes = plan["batch"], described["shapes"]
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for run in streams:
            self._free.put(run)
        self._pool = ThreadPoolExecutor(len(streams))

    def infer(self, arrays: Arrays) -> Arrays:
        """Outputs by name. Raises Refused."""
        wanted = {one["name"] for one in self.inputs}
        if arrays.keys() != wanted:
            raise Refused(HTTPStatus.BAD_REQUEST, "input.names", f"The model takes {sorted(wanted)}; the request holds {sorted(arrays)}.")
        try:
            given = [np.ascontiguousarray(arrays[one["name"]]).reshape(arrays[one["name"]].shape) for one in self.inputs]
            results = self._run(given) if self._batch == 1 else self._in_batches(given)
        except Exception as error:  # the runtimes' exceptions share no base class
            raise Refused(HTTPStatus.BAD_REQUEST, "input.refused", " ".join(str(error).split())[:500]) from error
        return {one["name"]: plain(result) for one, result in zip(self.outputs, results, strict=True)}

    def _run(self, given: list[Any]) -> list[Any]:
        """One call, by whichever stream is free."""
        run = self._free.get()
        try:
            return list(run(given))
        finally:
            self._free.put(run)

    def _in_batches(self, given: list[Any]) -> list[Any]:
        """Any number of examples, computed in whole batches: the last is filled up with its own last example."""
        rows = self._batch * self._shapes[self.inputs[0]["name"]][0]
        count = len(given[0])
        if count == 0 or any(len(array) != count for array in given):
            raise ValueError("every input holds the same number of examples along its first axis, at least one")
        calls = [[filled(array[first : first + rows], rows) for array in given] for first in range(0, count, rows)]
        return [first_of(parts, count, rows=rows) for parts in zip(*self._pool.map(self._run, calls), strict=True)]


def filled(array: Any, rows: int) -> Any:
    """The array with its last row repeated up to this many."""
    return array if len(array) == rows else np.concatenate([array, np.repeat(array[-1:], rows - len(array), axis=0)])


def first_of(parts: Any, count: int, *, rows: int) -> Any:
    """One output of the first ``count`` examples, from calls of ``rows`` examples each; an example may have several rows of it."""
    return np.concatenate(parts)[: count * len(parts[0]) // rows]


def open_onnxruntime(path: Path, described: dict[str, Any]) -> list[Any]:
    """Functions from input arrays to output arrays, both in the model's order: as many as may run at once.

    A session with one thread computes in the caller's own and can serve them all.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    ort: Any = importlib.import_module("onnxruntime")
    plan, options = described["session"], ort.SessionOptions()
    options.intra_op_num_threads = plan["threads"]
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, plan["graph_level"])
    for key, value in plan["config"].items():
        options.add_session_config_entry(key, value)
    providers = [(name, chosen) for name, chosen in plan["providers"]]
    key = {"graph_level": plan["graph_level"], "provider": providers[0][0]}
    prepared = start_cache(path, described, runtime=f"onnxruntime {ort.__version__}", settings=key, shapes={})
    if prepared:
        path, options.graph_optimization_level = prepared, ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    names, results = [one["name"] for one in described["inputs"]], [one["name"] for one in described["outputs"]]

    def stream(session: Any) -> Any:
        return lambda arrays: session.run(results, dict(zip(names, arrays, strict=True)))

    shared = plan["threads"] == 1
    sessions = [ort.InferenceSession(str(path), options, providers=providers) for _ in range(1 if shared else plan["streams"])]
    return [stream(session) for session in (sessions * plan["streams"] if shared else sessions)]


def open_openvino(path: Path, described: dict[str, Any]) -> list[Any]:
    """Functions from input arrays to output arrays, both in the model's order: as many as may run at once."""
    ov: Any = importlib.import_module("openvino")
    plan, core = described["session"], ov.Core()
    shapes = {name: [shape[0] * plan["batch"], *shape[1:]] if shape else shape for name, shape in described["shapes"].items()}
    settings = {"device": plan["device"], **plan["properties"]}
    prepared = start_cache(path, described, runtime=f"openvino {ov.__version__}", settings=settings, shapes=shapes)
    if prepared:
        compiled = core.import_model(prepared.read_bytes(), plan["device"], plan["properties"])
    else:
        model = core.read_model(str(path))
        if shapes:
            model.reshape(shapes)
        compiled = core.compile_model(model, plan["device"], plan["properties"])

    def run(request: Any, arrays: list[Any]) -> list[Any]:
        for port, array in zip(request.model_inputs, arrays, strict=True):
            if port.get_element_type() != ov.Tensor(array).get_element_type():
                raise TypeError(f"{port.get_any_name()} takes {port.get_element_type().get_type_name()}, not {array.dtype}.")
        return [array.copy() for array in request.infer(dict(enumerate(arrays)), share_outputs=True).values()]

    if plan["bucketed"]:
        return [by_shape(run, path, described, core, any_shape=compiled.create_infer_request())]
    return [functools.partial(run, compiled.create_infer_request()) for _ in range(plan["streams"])]


def by_shape(run: Any, path: Path, described: dict[str, Any], core: Any, *, any_shape: Any) -> Any:
    """A function that finds the request compiled for the shapes of its arrays; other shapes go to one that takes any."""
    plan, names, requests = described["session"], [one["name"] for one in described["inputs"]], {}
    for bucket in described["traffic"]:
        model = core.read_model(str(path))
        model.reshape(bucket["shapes"])
        compiled = core.compile_model(model, plan["device"], plan["properties"])
        requests[tuple(tuple(bucket["shapes"][name]) for name in names)] = compiled.create_infer_request()
    return lambda arrays: run(requests.get(tuple(array.shape for array in arrays), any_shape), arrays)


def start_cache(path: Path, described: dict[str, Any], *, runtime: str, settings: dict[str, Any], shapes: dict[str, Any]) -> Path | None:
    """What the runtime prepared for starts, if the bundle has it and it was made under these very conditions."""
    folder = path.parent / "start-cache"
    if not described["session"]["start_cache"]:
        return None
    try:
        stamp = json.loads((folder / "stamp.json").read_text(encoding="utf-8"))
        file = folder / Path(str(stamp["file"])).name
    except (OSError, ValueError, KeyError):
        return None
    model = [path.name, path.stat().st_size]
    here = {"runtime": runtime, "processor": processor(), "model": model, "settings": settings, "shapes": shapes}
    described["start_cache_used"] = stamp.get("conditions") == here and file.is_file()
    return file if described["start_cache_used"] else None


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Digest of the processor's model and instruction sets; elsewhere than on Linux of what the standard library knows."""
    told = ("model name", "flags", "Features", "CPU part")
    try:
        first = cpuinfo.read_text(encoding="utf-8").partition("\n\n")[0]
        facts = sorted(line for line in first.splitlines() if line.partition(":")[0].strip() in told)
    except OSError:
        facts = [platform.processor()]
    return hashlib.sha256("\n".join([platform.machine(), *facts]).encode()).hexdigest()[:32]


def plain(array: Any) -> Any:
    """An array that .npz and JSON can hold."""
    if array.dtype.kind in "OS":
        return array.astype(str)
    return array.astype(np.float32) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array


def from_json(body: bytes, inputs: list[dict[str, Any]]) -> Arrays:
    """The request's arrays, each in the dtype that the model declares. Raises Refused."""
    try:
        given = json.loads(body)["inputs"]
        kinds = {one["name"]: np.dtype(object if one["dtype"] == "string" else one["dtype"]) for one in inputs}
        return {name: np.array(value, dtype=kinds.get(name)) for name, value in given.items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "input.malformed", f'Send {{"inputs": {{name: nested lists}}}}: {error}.') from error


def from_npz(body: bytes, *, most_bytes: int) -> Arrays:
    """The request's arrays. Raises Refused, also for a small file that would unpack to a large one."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            if sum(member.file_size for member in archive.infolist()) > most_bytes:
                raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "input.too_large", f"The arrays exceed {most_bytes:,} bytes.")
        with np.load(io.BytesIO(body), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError, MemoryError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "input.malformed", f"Write the file with numpy.savez(path, **arrays): {error}.") from error


def to_json(outputs: Arrays) -> bytes:
    """Raises Refused for numbers that JSON does not know."""
    try:
        return json.dumps({"outputs": {name: array.tolist() for name, array in outputs.items()}}, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY, "output.not_json", f"JSON cannot hold these outputs; ask in .npz: {error}."
        ) from error


def to_npz(outputs: Arrays) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def handler(model: Model, *, most_bytes: int) -> type[BaseHTTPRequestHandler]:
    """The request handler of this model."""

    class Handler(BaseHTTPRequestHandler):
        timeout = IDLE_S
        server_version = "bundle"

        def do_GET(self) -> None:
            if self.path != "/health":
                self._refuse(Refused(HTTPStatus.NOT_FOUND, "path.unknown", "There is GET /health and POST /infer."))
                return
            told = {"status": "ok", "inputs": model.inputs, "outputs": model.outputs, "start_cache": model.start_cache}
            self._answer(HTTPStatus.OK, JSON, json.dumps(told).encode())

        def do_POST(self) -> None:
            try:
                kind, body = self._request()
                outputs = model.infer(from_npz(body, most_bytes=most_bytes) if kind == NPZ else from_json(body, model.inputs))
                self._answer(HTTPStatus.OK, kind, to_npz(outputs) if kind == NPZ else to_json(outputs))
            except Refused as refused:
                self._refuse(refused)

        def _request(self) -> tuple[str, bytes]:
            if self.path != "/infer":
                raise Refused(HTTPStatus.NOT_FOUND, "path.unknown", "There is GET /health and POST /infer.")
            kind = self.headers.get_content_type()
            if kind not in (JSON, NPZ):
                raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "input.type", f"Send {JSON} or {NPZ}.")
            length = self.headers.get("Content-Length", "")
            if not length.isascii() or not length.isdigit():
                raise Refused(HTTPStatus.LENGTH_REQUIRED, "input.length", "Send a Content-Length.")
            if int(length) > most_bytes:
                raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "input.too_large", f"At most {most_bytes:,} bytes.")
            return kind, self.rfile.read(int(length))

        def _refuse(self, refused: Refused) -> None:
            self.close_connection = True
            self._answer(refused.status, JSON, json.dumps({"code": refused.code, "message": refused.message}).encode())

        def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def check(model: Model, folder: Path) -> int:
    """Compare the model's answers to the samples with the expected ones; 0 when they agree to 0.1 % of each output's scale."""
    worst = 0.0
    with np.load(folder / "samples" / "inputs.npz") as inputs, np.load(folder / "samples" / "outputs.npz") as outputs:
        columns = {one["name"]: inputs[one["name"]] for one in model.inputs}
        count = len(next(iter(columns.values())))
        for number in range(count):
            found = model.infer({name: column[number] for name, column in columns.items()})
            for place, one in enumerate(model.outputs):
                worst = max(worst, departure(outputs[f"{place}/{number}"], found[one["name"]]))
    agrees = worst <= CHECK_OF_SCALE
    sys.stdout.write(
        f"{count} samples: largest error {worst:.3g} of the output's scale; {'as expected' if agrees else 'NOT as expected'}\n"
    )
    return 0 if agrees else 1


def departure(expected: Any, found: Any) -> float:
    """Largest error relative to the output's scale; infinite for another shape, other text or other non-finite places."""
    if expected.shape != found.shape:
        return float("inf")
    if expected.dtype.kind not in "fiub" or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        same = np.array_equal(expected, found, equal_nan=expected.dtype.kind == "f")
        return 0.0 if same else float("inf")
    exact = expected.astype(np.float64)
    error = float(np.abs(exact - found.astype(np.float64)).max(initial=0.0))
    return error / max(float(np.abs(exact).max(initial=0.0)), 1e-7)


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve the model of this bundle.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine alone")
    parser.add_argument("--port", type=int, default=8080, help="0 takes any free port and prints it")
    parser.add_argument("--max-bytes", type=int, default=MOST_BYTES, help="largest request")
    parser.add_argument("--check", action="store_true", help="run the samples, compare with the expected outputs, and exit")
    options = parser.parse_args()
    model = Model(HERE)
    if options.check:
        return check(model, HERE)
    with ThreadingHTTPServer((options.host, options.port), handler(model, most_bytes=options.max_bytes)) as server:
        server.daemon_threads = True
        sys.stdout.write(f"Serving on http://{server.server_address[0]!s}:{server.server_address[1]}\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
