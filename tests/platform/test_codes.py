"""Every stable code is registered once, with a sentence that helps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from parka.core import codes
from parka.core.errors import PlatformError

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("platform", "optimizer") for path in (ROOT / folder).rglob("*.py") if "migrations" not in path.parts]
CODE = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
ERRORS = {kind.__name__ for kind in PlatformError.__subclasses__()} | {"PlatformError", "EngineError", "InputError", "EngineFault"}
CARRIERS = {"FieldError", "ChildFailure", "Failure", "Problem"}


def raised_codes(path: Path) -> Iterator[tuple[str, int]]:
    """Codes in ``Refused("x.y", …)`` and ``FieldError(code="x.y")``, with their line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        first = node.args[:1] if node.func.id in ERRORS else []
        named = [one.value for one in node.keywords if one.arg == "code"] if node.func.id in ERRORS | CARRIERS else []
        for value in (*first, *named):
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and CODE.fullmatch(value.value):
                yield value.value, node.lineno


def test_every_raised_code_is_registered() -> None:
    missing = {
        f"{code} ({path.relative_to(ROOT)}:{line})" for path in SOURCES for code, line in raised_codes(path) if code not in codes.CODES
    }
    assert not missing, "\n".join(sorted(missing))


def test_a_code_is_registered_in_one_table_only() -> None:
    tables = [table for name, table in vars(codes).items() if name.isupper() and isinstance(table, dict) and name != "CODES"]
    assert sum(len(table) for table in tables) == len(codes.CODES)


@pytest.mark.parametrize("code", sorted(codes.CODES))
def test_a_sentence_ends_like_one(code: str) -> None:
    sentence = codes.CODES[code]
    assert sentence[0].isupper()
    assert sentence.endswith((".", "…"))


def test_every_code_of_the_specification_is_registered() -> None:
    """The codes that ``security.md`` names for this issue's doors."""
    named = [
        "upload.offset",
        "upload.locked",
        "upload.too_large",
        "upload.checksum",
        "upload.unknown",
        "upload.expired",
        "upload.chunk_too_large",
        "quota.storage",
        "quota.uploads",
        "storage.full",
        "url.invalid",
        "not_found",
        "forbidden",
        "rate.limited",
        "field.unknown_object",
        "token.expired",
        "token.scope",
        "server.busy",
        "lease.stale",
        "result.conflict",
        "result.invalid",
        "result.too_large",
        "run.not_found",
        "run.no_agent",
        "run.attempts_exhausted",
        "log.offset",
        "log.full",
        "agent.token_invalid",
        "agent.superseded",
        "agent.registration_used",
        "agent.registration_invalid",
        "agent.sandbox_too_weak",
        "agent.protocol_version",
        "artifact.unknown",
        "artifact.missing",
        "child.oom",
        "child.timeout",
        "child.crash",
        "child.disk",
        "child.output_invalid",
        "format.mismatch",
        "format.polyglot",
        "format.keras",
        "format.pickle",
        "format.archive",
        "format.native_code",
        "format.unknown",
        "model.code_disabled",
        "model.code_role",
        "onnx.malformed",
        "onnx.limit",
        "onnx.opset",
        "onnx.op_domain",
        "onnx.external_path",
        "onnx.external_range",
        "onnx.external_key",
        "onnx.external_missing",
        "npz.object_dtype",
        "npz.malformed",
        "npz.limit",
        "zip.path",
        "zip.duplicate",
        "zip.ratio",
        "zip.limit",
        "zip.overlap",
        "zip.header",
        "zip.encrypted",
        "zip.nested",
        "zip.crc",
    ]
    assert set(named) <= set(codes.CODES)
