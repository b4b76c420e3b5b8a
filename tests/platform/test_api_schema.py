"""The OpenAPI document: committed, complete, and kept by the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import yaml
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from parka.accounts.access import Access
from parka.accounts.services import create_token
from parka.api import throttles, urls
from parka.api.documents import COMMITTED, openapi_text
from parka.core.codes import CODES
from tests.platform.factories import bench_agent, finished_run, sentences
from tests.platform.test_permissions import PUBLIC, ROUTES

METHODS = {"get", "post", "put", "patch", "delete", "head"}
EXAMPLES = 6
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
WAITS = {"/api/v1/runs/{key}", "/api/v1/experiments/{key}"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in yaml.safe_load(openapi_text())["paths"].items():
        yield from ((path, method, operation) for method, operation in item.items() if method in METHODS)


def test_the_committed_document_is_the_current_one() -> None:
    assert COMMITTED.read_text() == openapi_text(), "run: python manage.py spectacular --file openapi.yaml"


def test_every_route_is_documented() -> None:
    documented = {(re.sub(r"{\w+}", "{}", path), method) for path, method, _ in operations()}
    paths = {pattern.name: re.sub(r"<[^>]+>", "{}", f"/api/v1/{pattern.pattern}") for pattern in urls.urlpatterns}
    assert {(paths[name], method) for name, method in ROUTES if name not in PUBLIC} <= documented


def test_operation_ids_are_unique_and_every_operation_says_how_it_fails() -> None:
    found = list(operations())
    ids = [operation["operationId"] for _, _, operation in found]
    assert len(ids) == len(set(ids))
    for path, _, operation in found:
        assert "application/problem+json" in operation["responses"]["default"]["content"], path
        assert operation.get("description"), path


def test_references_in_the_document_resolve() -> None:
    text = openapi_text()
    wanted = set(re.findall(r"#/components/schemas/([\w.-]+)", text))
    assert wanted <= set(yaml.safe_load(text)["components"]["schemas"])


@pytest.fixture
def same_connection() -> Iterator[None]:
    """Requests share the test's transaction: a WSGI handler would close the connection under it."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.django_db
@pytest.mark.usefixtures("same_connection")
def test_the_server_keeps_its_document_whatever_it_is_sent(alice_access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """schemathesis on every operation, a few examples each: no 5xx, answers as documented, codes that exist."""
    for name in ("TOKEN_LIMIT", "ANONYMOUS_LIMIT", "GUESS_LIMIT"):
        monkeypatch.setattr(throttles, name, 10**9)
    finished_run(alice_access, bench_agent(alice_access))
    sentences(alice_access)
    _, plain = create_token(alice_access, name="fuzz", scope=alice_access.widest_scope)
    document = schemathesis.openapi.from_dict(yaml.safe_load(openapi_text()))
    document.app = get_wsgi_application()
    failures = [fuzz(found.ok(), {"Authorization": f"Bearer {plain}"}) for found in document.get_all_operations()]
    assert not any(failures), "\n\n".join(filter(None, failures))


def fuzz(operation: Any, headers: dict[str, str]) -> str:
    """A few generated requests, each rolled back; what went wrong, if anything."""

    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        deadline=None,
        database=None,
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        if operation.path in WAITS:
            case.query = {}
        with transaction.atomic():
            response = case.call(headers=headers)
            transaction.set_rollback(True)
        case.validate_response(response, checks=[not_a_server_error, response_schema_conformance], headers=headers)
        if response.status_code >= 400 and response.content:
            assert response.json()["code"] in CODES, response.text

    try:
        ask()
    except (Exception, BaseExceptionGroup) as failure:
        return f"{operation.method} {operation.path}: {failure} {getattr(failure, 'exceptions', '')}"
    return ""
