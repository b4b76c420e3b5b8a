"""External toolkits: a real environment of its own, declared by the machine's owner, run inside the sandbox."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimizer import tools
from optimizer.codec import to_jsonable
from optimizer.errors import InputError
from optimizer.formats import inspect_model
from optimizer.hardware.probing import runtime_versions
from optimizer.host_folders import HOME
from optimizer.passes import No, Yes, broken_passes, optimization_pass, passes
from optimizer.passes.build_key import build_key, tool_versions
from optimizer.pipeline.builds import BuildCache
from optimizer.pipeline.materialise import materialise
from optimizer.pipeline.subject import StepFailed
from optimizer.sandbox import ChildFailure, ChildJob, ChildOutcome, Level, Sandbox
from optimizer.sandbox.levels import is_installed
from optimizer.sandbox.recipe import JobFolder, spawn_request
from optimizer.search import planner
from optimizer.specs import Budget, HardwareProfile, InputSource, PassStep, Recipe, SearchSpec
from parka_agent.doctor import Finding, pass_findings
from tests import samples
from tests.engine.passes import models
from tests.engine.pipeline.test_prepared_starts import subject

DRIVER = """\
import json, os, socket, sys, zipfile
from pathlib import Path
from tool_job import Job, offer

def written(job, name="made/model.onnx"):
    entry = job.out / name
    entry.parent.mkdir(exist_ok=True)
    note = b"\\x0a\\x02by\\x12\\x08our tool"
    entry.write_bytes(job.model.read_bytes() + bytes([0x72, len(note)]) + note)
    assert zipfile.is_zipfile(job._examples) and job.shapes == {"x": [2, 8]}
    return entry

def network(job):
    socket.create_connection(("127.0.0.1", 9), timeout=5)

def secret(job):
    Path(SECRET).read_text()

job = Job()
if job.variant == "dies":
    sys.exit("Loading\\nLicence expired on 2020-01-01\\n")
if job.variant == "escapes":
    print(json.dumps({"label": "escapes", "entry": "../../model/model.onnx"}))
if job.variant == "plain":
    print(json.dumps({"seconds": float("nan"), "entry": str(written(job).relative_to(job.out)), "label": "plain"}))
    print(json.dumps({"label": 3}), "[" * 100_000, "null", "done", sep="\\n")
if job.variant == "nameless":
    print(json.dumps({"label": ["nameless"], "entry": str(written(job).relative_to(job.out))}))
if job.variant in ("nul", "long"):
    print(json.dumps({"label": "odd", "entry": "\\0.onnx" if job.variant == "nul" else "x" * 5000 + ".onnx"}))
offer("as it is", lambda: written(job), job=job, variant="exact")
offer("network", lambda: network(job), job=job, variant="network")
offer("secret", lambda: secret(job), job=job, variant="secret")
offer("damaged", lambda: (written(job).write_bytes(b"no model"), job.out / "made/model.onnx")[1], job=job, variant="damaged")
"""


def forget() -> None:
    tools._read.cache_clear()


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine whose owner declares ``our_tool`` in an environment that holds nothing but Python; the folder of it all."""
    folder = tmp_path / "tool"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    (tmp_path / "secret.txt").write_text("a customer's model")
    (folder / "drive.py").write_text(f"SECRET = {str(tmp_path / 'secret.txt')!r}\n{DRIVER}")
    home = tmp_path / "home"
    home.mkdir()
    (home / tools.FILE_NAME).write_text(
        f'[our_tool]\npython = "{folder}/venv/bin/python"\nscript = "{folder}/drive.py"\ntitle = "Our tool"\nvariants = ["exact", "dies"]\n'
    )
    monkeypatch.setenv(HOME, str(home))
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()


def built(tmp_path: Path, variant: str, *, level: Level = Level.C) -> ChildOutcome:
    (tmp_path / "model").mkdir()
    model = models.untidy(tmp_path / "model" / "model.onnx")
    host = models.HOST
    job = ChildJob(
        entry="optimizer.passes.child:apply_recipe",
        params={
            "entry": "model.onnx",
            "passes": [{"name": "our_tool", "params": {"variant": variant}}],
            "card": to_jsonable(inspect_model(model)),
            "hardware": {**to_jsonable(host), "runtimes": {**host.runtimes, **tools.versions()}},
            "shapes": {"x": [2, 8]},
        },
        binds={"model": tmp_path / "model", "calibration": models.examples_folder(tmp_path / "inputs", models.normal_feeds("x", (2, 8)))},
        tools=True,
    )
    with Sandbox(root=tmp_path / "jobs", level=level) as sandbox:
        return sandbox.run(job)


class Noting(Sandbox):
    """Runs nothing and keeps what was asked."""

    def __init__(self, *, root: Path, level: Level) -> None:
        super().__init__(root=root, level=level)
        self.asked: list[ChildJob] = []

    def run(self, job: ChildJob, **_options: object) -> ChildOutcome:
        self.asked.append(job)
        failure = ChildFailure(code="child.crash", detail="It was not run.")
        return ChildOutcome(out_dir=self._root / "job" / "out", level=self.level, failure=failure)


def levels() -> list[Level]:
    return [level for level in Level if is_installed(level)]


@pytest.mark.parametrize("level", levels())
def test_a_declared_tool_runs_in_its_own_environment_inside_every_sandbox(declared: Path, level: Level) -> None:
    outcome = built(declared, "exact", level=level)
    assert outcome.result is not None, outcome.failure
    assert outcome.result["facts"][0]["tool"] == "Our tool"
    assert b"our tool" in (outcome.out_dir / "model" / "model.onnx").read_bytes()
    feeds = models.normal_feeds("x", (2, 8))
    before, after = (
        models.outputs_of(declared / "model" / "model.onnx", feeds),
        models.outputs_of(outcome.out_dir / "model" / "model.onnx", feeds),
    )
    assert [one.tolist() for [one] in before] == [one.tolist() for [one] in after]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("with_tools", [True, False])
def test_only_a_job_that_asks_for_the_tools_is_told_of_them_and_sees_them(declared: Path, level: Level, with_tools: bool) -> None:
    job = ChildJob(entry="optimizer.sandbox.probes:echo", tools=with_tools)
    request = spawn_request(job, level=level, folder=JobFolder(out=declared / "out", scratch=declared / "scratch"))
    assert (tools.INHERITED in request["environment"]) is with_tools
    assert (str(declared / "tool") in json.dumps(request)) is with_tools


@pytest.mark.parametrize(("step", "with_tools"), [("our_tool", True), ("simplify", False)])
def test_only_the_build_of_a_recipe_with_a_tool_asks_for_the_tools(declared: Path, step: str, with_tools: bool) -> None:
    with Noting(root=declared / "jobs", level=Level.C) as sandbox, pytest.raises(StepFailed):
        materialise(
            Recipe(backend="onnxruntime", passes=(PassStep(name=step),)),
            subject=subject(declared / "subject"),
            cache=BuildCache(declared / "builds"),
            sandbox=sandbox,
        )
    assert [job.tools for job in sandbox.asked] == [with_tools]


@pytest.mark.parametrize("level", [level for level in levels() if level is not Level.C])
@pytest.mark.parametrize("variant", ["network", "secret"])
def test_a_tool_reaches_no_network_and_no_other_file(declared: Path, variant: str, level: Level) -> None:
    outcome = built(declared, variant, level=level)
    assert outcome.failure is not None
    assert outcome.failure.code == "pass.failed"
    assert "PermissionError" in outcome.failure.detail or "FileNotFoundError" in outcome.failure.detail


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        ("dies", "Our tool gave no model: Licence expired on 2020-01-01"),
        ("escapes", "which is no ONNX file that it wrote"),
        ("damaged", "cannot be read"),
        ("nameless", 'Our tool gave no model: {"label": ["nameless"]'),
        ("nul", "which is no ONNX file that it wrote"),
        ("long", "which is no ONNX file that it wrote"),
        ("unheard_of", "Our tool gave no model: it said nothing."),
    ],
)
def test_a_tool_that_fails_is_told_of_in_its_own_last_words(declared: Path, variant: str, sentence: str) -> None:
    outcome = built(declared, variant)
    assert outcome.failure is not None
    assert outcome.failure.code == "pass.failed"
    assert sentence in outcome.failure.detail


def test_an_answer_is_known_by_its_label_wherever_it_stands(declared: Path) -> None:
    outcome = built(declared, "plain")
    assert outcome.result is not None, outcome.failure
    [facts] = outcome.result["facts"]
    assert (facts["way"], facts["tool_seconds"]) == ("plain", None)


def test_a_tool_counts_among_the_runtimes_and_its_script_among_the_build_key(declared: Path) -> None:
    steps = [PassStep(name="our_tool")]
    first = (runtime_versions()["tool:our_tool"], tool_versions(steps)["tool:our_tool"], build_key("0" * 64, steps))
    assert first[0] == first[1] != ""
    script = declared / "tool" / "drive.py"
    script.write_text(script.read_text() + "# changed\n")
    assert build_key("0" * 64, steps) != first[2]


def test_a_tool_that_names_a_package_of_ours_counts_by_its_own_script_and_gives_us_no_package(declared: Path) -> None:
    before = runtime_versions()
    with (declared / "home" / tools.FILE_NAME).open("a") as file:
        file.write('distribution = "onnx"\n')
    forget()
    assert runtime_versions() == before
    assert tool_versions([PassStep(name="our_tool")])["tool:our_tool"] == before["tool:our_tool"]
    absent = "torch" if "torch" not in before else "tensorflow"
    site = next((declared / "tool" / "venv").glob("lib/python3*/site-packages"))
    (site / f"{absent}-9.dist-info").mkdir()
    (site / f"{absent}-9.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {absent}\nVersion: 9\n")
    config = declared / "home" / tools.FILE_NAME
    config.write_text(config.read_text().replace('"onnx"', f'"{absent}"'))
    forget()
    assert runtime_versions() == {**before, "tool:our_tool": f"9+{before['tool:our_tool']}"}


def test_a_tool_among_the_runtimes_reads_as_one() -> None:
    assert [tools.readable(name) for name in ("openvino", "tool:olive")] == ["openvino", "olive (tool)"]


def test_a_tool_is_planned_where_it_is_declared_and_told_of_elsewhere(declared: Path) -> None:
    card = inspect_model(samples.conv(declared / "conv.onnx"))
    with_tool = HardwareProfile(**{**_facts(), "runtimes": {"onnxruntime": "1", **tools.versions()}})
    standard = SearchSpec(budget=Budget(preset="standard", total_s=1200.0))
    assert any(step.name == "our_tool" for one in _plan(card, standard, with_tool).candidates for step in one.recipe.passes)
    told = {one.label: one.reason for one in _plan(card, SearchSpec(), with_tool).not_tried}
    assert "larger preset" in told["Our tool"]
    assert told["Olive"] == told["Neural Compressor"] == "It runs in an environment of its own, and none is declared on this machine."
    asked = SearchSpec(passes=("our_tool",))
    assert any(step.name == "our_tool" for one in _plan(card, asked, with_tool).candidates for step in one.recipe.passes)


def _facts() -> dict[str, object]:
    return {
        "os": "linux",
        "os_version": "12",
        "architecture": "x86_64",
        "kernel": "6",
        "cpu_model": "test",
        "cores": 2,
        "memory_bytes": 1 << 33,
    }


def _plan(card: object, spec: SearchSpec, host: HardwareProfile) -> planner.Plan:
    return planner.plan(card, spec, host, planner.installed_backends(host), input_source=InputSource.REAL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[olive\n", "cannot be read"),
        ('[olive]\npython = "olive"\n', "is no such program"),
        ('[olive]\npython = "/etc/passwd"\n', "is no such program"),
        ('["../olive"]\npython = "/usr/bin/python3"\n', "is no tool"),
        ('[mine]\npython = "/usr/bin/env"\n', "no driver"),
        ('[mine]\npython = "/usr/bin/env"\nscript = "drive.py"\n', "no driver"),
        ('[mine]\npython = "/usr/bin/env"\nscript = "/etc/passwd"\nvariants = ["a b"]\n', "no driver"),
    ],
)
def test_a_declaration_that_cannot_be_used_is_told_of_with_what_to_write(declared: Path, text: str, sentence: str) -> None:
    (declared / "home" / tools.FILE_NAME).write_text(text)
    forget()
    [(name, reason)] = broken_passes().items()
    assert sentence in reason
    assert name not in passes()
    with pytest.raises(InputError, match=sentence) as refusal:
        optimization_pass(name)
    assert refusal.value.code == "tools.config"


def test_a_broken_declaration_leaves_the_others_and_the_children_alone(declared: Path) -> None:
    with (declared / "home" / tools.FILE_NAME).open("a") as file:
        file.write('[olive]\npython = "/gone/bin/python"\n')
    forget()
    assert built(declared, "exact").ok
    assert set(tools.versions()) == {"tool:our_tool"}
    card = inspect_model(samples.conv(declared / "conv.onnx"))
    host = HardwareProfile(**{**_facts(), "runtimes": {"onnxruntime": "1"}})
    told = [one for one in _plan(card, SearchSpec(), host).not_tried if "olive" in one.label.lower()]
    assert [one.label for one in told] == ["olive"]
    assert "is no such program" in told[0].reason
    assert Finding(topic="pass", good=False, text=f"olive: {tools.broken_tools()['olive']}") in pass_findings()
    with pytest.raises(InputError, match="is no such program"):
        build_key("0" * 64, [PassStep(name="olive")])


def test_a_tool_that_vanishes_after_it_was_read_takes_nothing_down(declared: Path) -> None:
    tools.declared_tools()
    shutil.rmtree(declared / "tool")
    assert "tool:our_tool" not in runtime_versions()
    outcome = built(declared, "exact")
    assert outcome.failure is not None
    assert outcome.failure.code == "pass.not_applicable"


@pytest.mark.parametrize("variable", ["HOME", HOME])
@pytest.mark.parametrize("place", ["private/bin", "bin"])
def test_an_interpreter_whose_folder_holds_what_is_private_is_refused(
    declared: Path, monkeypatch: pytest.MonkeyPatch, variable: str, place: str
) -> None:
    (declared / place).mkdir(parents=True)
    (declared / "private").mkdir(exist_ok=True)
    (declared / place / "python").symlink_to("/usr/bin/env")
    monkeypatch.setenv(HOME, "")
    monkeypatch.setenv(variable, str(declared / "private"))
    monkeypatch.setenv("PARKA_TOOL_OLIVE", str(declared / place / "python"))
    assert "olive" not in tools.declared_tools()
    assert "Make an environment in a folder of its own" in tools.broken_tools()["olive"]


def test_an_interpreter_that_only_links_into_the_home_is_refused(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(declared / "tool"))
    (declared / "tool" / "bin").mkdir()
    (declared / "tool" / "bin" / "python").write_text("#!/bin/sh\n")
    (declared / "tool" / "bin" / "python").chmod(0o755)
    (declared / "link" / "bin").mkdir(parents=True)
    (declared / "link" / "bin" / "python").symlink_to(declared / "tool" / "bin" / "python")
    monkeypatch.setenv("PARKA_TOOL_OLIVE", str(declared / "link" / "bin" / "python"))
    assert "would show" in tools.broken_tools()["olive"]


def test_what_every_child_sees_is_no_root_of_a_tool(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME, "")
    monkeypatch.setenv("PARKA_TOOL_OLIVE", "/usr/bin/env")
    assert tools.roots() == (tools.KNOWN["olive"].script,)


def test_a_declaration_that_others_may_write_is_refused_as_a_whole(declared: Path) -> None:
    (declared / "home" / tools.FILE_NAME).chmod(0o666)
    forget()
    assert not tools.declared_tools()
    assert "chmod go-w" in broken_passes()[tools.FILE_NAME]
    with pytest.raises(InputError, match=r"There is no pass named 'our_tool'; .* chmod go-w"):
        optimization_pass("our_tool")


def test_a_variable_declares_a_tool_that_has_a_driver(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = declared / "tool" / "venv" / "bin" / "python"
    monkeypatch.setenv("PARKA_TOOL_OLIVE", str(python))
    assert tools.declared_tools()["olive"].python == str(python)
    assert "tool:olive" not in tools.versions()
    card, host = inspect_model(samples.conv(declared / "conv.onnx")), models.HOST
    assert isinstance(passes()["olive"].applicable(card, host), No)
    assert isinstance(passes()["our_tool"].applicable(card, HardwareProfile(**{**_facts(), "runtimes": tools.versions()})), Yes)
