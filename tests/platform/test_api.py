"""Manners of the public API: problems, pages, idempotency, limits, callers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import override_settings
from rest_framework.test import APIClient

from parka.accounts.access import Access
from parka.accounts.models import ApiToken, Role, Scope, User
from parka.accounts.selectors import member
from parka.accounts.services import change_role, create_team, create_token, remove_member
from parka.api import throttles
from parka.audit.models import SecurityEvent
from parka.core.errors import Refused, TooLarge
from parka.core.models import IdempotencyRecord
from parka.core.tokens import token_digest
from parka.registry.models import Artifact, ArtifactRole, Model, Upload, UploadState

pytestmark = pytest.mark.django_db
Api = Callable[..., APIClient]


def complete_upload(access: Access, content: bytes = b"bytes", role: ArtifactRole = ArtifactRole.MODEL) -> str:
    """Id of a finished upload whose bytes nobody reads."""
    sha256 = hashlib.sha256(content).hexdigest()
    artifact, _ = Artifact.objects.get_or_create(
        team=access.team, sha256=sha256, role=role, defaults={"size_bytes": len(content), "file_name": "tiny.onnx"}
    )
    upload = Upload.objects.create(
        team=access.team, user=access.user, role=role, file_name="tiny.onnx", size_bytes=len(content), offset_bytes=len(content),
        sha256=sha256, state=UploadState.COMPLETE, artifact=artifact, expires_at=Now(),
    )  # fmt: skip
    return upload.public_id


def problem(response: Any) -> tuple[int, str]:
    assert response["Content-Type"] == "application/problem+json", response.content
    return response.status_code, response.json()["code"]


def test_a_token_says_who_it_is(api: Api, bob_access: Access) -> None:
    body = api(bob_access).get("/api/v1/me").json()
    assert (body["email"], body["team"]["slug"], body["team"]["role"], body["scope"]) == ("bob@acme.example", "acme", "member", "run")
    assert "upload" in body["capabilities"]
    assert "manage_roles" not in body["capabilities"]


def test_a_problem_document_is_complete(api: Api, settings: Any) -> None:
    response = api().get("/api/v1/models")
    body = response.json()
    assert problem(response) == (401, "unauthenticated")
    assert set(body) == {"type", "title", "status", "detail", "instance", "code", "errors"}
    assert body["type"] == f"{settings.PUBLIC_URL}/problems/unauthenticated/"
    assert body["instance"] == response["X-Request-Id"]
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert APIClient().get("/problems/unauthenticated/").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "expected"),
    [
        ("get", "/api/v1/nothing-here", None, None, (404, "not_found")),
        ("get", "/api/nothing", None, None, (404, "not_found")),
        ("put", "/api/v1/models", {}, "application/json", (405, "method.not_allowed")),
        ("post", "/api/v1/models", "{", "application/json", (400, "request.malformed")),
        ("post", "/api/v1/models", "a=1", "text/csv", (415, "request.media_type")),
        ("post", "/api/v1/models", "[]", "application/json", (422, "request.invalid")),
        ("get", "/api/v1/models?cursor=zzz", None, None, (400, "request.cursor")),
    ],
)
def test_every_error_is_a_problem(
    api: Api, bob_access: Access, method: str, path: str, body: Any, content_type: Any, expected: Any
) -> None:
    arguments = {} if body is None else {"data": body if isinstance(body, str) else "{}", "content_type": content_type}
    assert problem(getattr(api(bob_access), method)(path, **arguments)) == expected


def test_wrong_fields_are_named_by_pointer_and_code(api: Api, bob_access: Access) -> None:
    body = {"agents": [], "targets": [{"kpi": "latency_p50_ms"}], "budget_s": "soon", "version": ""}
    response = api(bob_access).post("/api/v1/experiments", body, format="json")
    assert problem(response) == (422, "request.invalid")
    errors = {(error["pointer"], error["code"]) for error in response.json()["errors"]}
    assert {
        ("/agents", "field.blank"),
        ("/targets/0/value", "field.required"),
        ("/budget_s", "field.invalid"),
        ("/version", "field.blank"),
    } <= errors


def test_unknown_and_foreign_references_look_the_same(api: Api, bob_access: Access, charlie_access: Access) -> None:
    foreign, answers = complete_upload(charlie_access), []
    for upload in (foreign, "upl_00000000000000000000"):
        response = api(bob_access).post("/api/v1/models", {"upload": upload, "name": "m"}, format="json")
        body = response.json()
        body.pop("instance")
        answers.append((response.status_code, body))
    assert answers[0] == answers[1]
    assert answers[0][1]["errors"][0]["code"] == "field.unknown_object"


def test_an_unknown_token_and_a_token_of_another_kind_are_invalid(api: Api) -> None:
    for value in ("pk_nope", "pka_nope", "", "pk_" + "x" * 43):
        response = APIClient(HTTP_AUTHORIZATION=f"Bearer {value}").get("/api/v1/me")
        assert problem(response) == (401, "token.invalid")


def test_an_expired_token_says_so(api: Api, bob_access: Access) -> None:
    client = api(bob_access)
    ApiToken.objects.update(expires_at=Now())
    assert problem(client.get("/api/v1/me")) == (401, "token.expired")


def test_a_token_ends_with_its_creators_membership(api: Api, alice_access: Access, bob: User, bob_access: Access) -> None:
    client = api(bob_access)
    remove_member(alice_access, member=member(alice_access, bob.public_id))
    assert problem(client.get("/api/v1/me")) == (401, "token.invalid")


def test_a_token_shrinks_with_its_creators_role(api: Api, alice_access: Access, bob: User, bob_access: Access) -> None:
    client = api(bob_access)
    change_role(alice_access, member=member(alice_access, bob.public_id), role=Role.VIEWER)
    upload = complete_upload(bob_access)
    assert problem(client.post("/api/v1/models", {"upload": upload}, format="json")) == (403, "forbidden")


def test_a_read_token_cannot_write(api: Api, alice_access: Access) -> None:
    client = api(alice_access, scope=Scope.READ)
    assert client.get("/api/v1/models").status_code == 200
    assert problem(client.post("/api/v1/tokens", {"name": "x", "scope": "read"}, format="json")) == (403, "token.scope")
    denial = SecurityEvent.objects.get(action="access.denied")
    assert (denial.target, denial.after, denial.team) == ("POST /api/v1/tokens", {"code": "token.scope"}, alice_access.team.public_id)


def test_a_session_needs_its_csrf_token(browser: Callable[[User], APIClient], bob: User, bob_access: Access) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(bob)
    for path in ("/api/v1/models", "/api/v1/uploads"):
        assert problem(client.post(path, {}, format="json")) == (403, "request.csrf")


def test_a_person_in_several_teams_names_one(browser: Callable[[User], APIClient], bob: User, bob_access: Access) -> None:
    client = browser(bob)
    assert client.get("/api/v1/models").status_code == 200
    second = create_team(bob, name="Second")
    assert problem(client.get("/api/v1/models")) == (422, "team.required")
    assert client.get("/api/v1/models", headers={"Parka-Team": second.slug}).status_code == 200
    assert problem(client.get("/api/v1/models", headers={"Parka-Team": "no-such"})) == (404, "not_found")


def test_pages_follow_their_links_to_the_end(api: Api, bob_access: Access) -> None:
    Model.objects.bulk_create(Model(team=bob_access.team, slug=f"m{n}", name=f"M{n}") for n in range(7))
    client, seen = api(bob_access), []
    page = client.get("/api/v1/models?limit=3")
    assert 'rel="next"' in page["Link"]
    while True:
        seen += [item["slug"] for item in page.json()["items"]]
        if not page.json()["next"]:
            break
        page = client.get(page.json()["next"])
    assert seen == [f"m{n}" for n in range(6, -1, -1)]
    assert page.json()["previous"]
    assert client.get("/api/v1/models/count").json() == {"count": 7}
    assert client.get("/api/v1/models/count?q=M3").json() == {"count": 1}


def test_a_repeated_post_is_carried_out_once(api: Api, bob_access: Access) -> None:
    client, body = api(bob_access), {"upload": complete_upload(bob_access), "name": "Tiny"}
    first = client.post("/api/v1/models", body, format="json", headers={"Idempotency-Key": "abc"})
    again = client.post("/api/v1/models", body, format="json", headers={"Idempotency-Key": "abc"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again["Location"] == first["Location"]
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first
    assert Model.objects.count() == 1


def test_the_same_key_with_another_body_is_refused(api: Api, bob_access: Access) -> None:
    client, upload = api(bob_access), complete_upload(bob_access)
    client.post("/api/v1/models", {"upload": upload, "name": "A"}, format="json", headers={"Idempotency-Key": "k"})
    other = client.post("/api/v1/models", {"upload": upload, "name": "B"}, format="json", headers={"Idempotency-Key": "k"})
    assert problem(other) == (422, "idempotency.mismatch")


def test_a_key_in_flight_is_a_conflict(api: Api, bob_access: Access) -> None:
    client, body = api(bob_access), {"upload": complete_upload(bob_access), "name": "A"}
    client.post("/api/v1/models", body, format="json", headers={"Idempotency-Key": "k"})
    IdempotencyRecord.objects.update(status=0)
    response = client.post("/api/v1/models", body, format="json", headers={"Idempotency-Key": "k"})
    assert problem(response) == (409, "idempotency.in_flight")
    assert response["Retry-After"] == "1"


def test_a_failed_request_frees_its_key(api: Api, bob_access: Access) -> None:
    client = api(bob_access)
    wrong = client.post("/api/v1/models", {"upload": "no"}, format="json", headers={"Idempotency-Key": "k"})
    assert wrong.status_code == 422
    right = client.post("/api/v1/models", {"upload": complete_upload(bob_access)}, format="json", headers={"Idempotency-Key": "k"})
    assert right.status_code == 201


def test_a_key_belongs_to_its_caller(api: Api, bob_access: Access, ada_access: Access) -> None:
    for access in (bob_access, ada_access):
        body = {"upload": complete_upload(access), "name": "Same"}
        assert api(access).post("/api/v1/models", body, format="json", headers={"Idempotency-Key": "k"}).status_code == 201
    assert Model.objects.count() == 2


def test_a_secret_is_shown_once_and_never_stored(api: Api, alice_access: Access) -> None:
    client, body = api(alice_access), {"name": "ci", "scope": "run", "days": 30}
    first = client.post("/api/v1/tokens", body, format="json", headers={"Idempotency-Key": "k"})
    again = client.post("/api/v1/tokens", body, format="json", headers={"Idempotency-Key": "k"})
    plain = first.json()["token"]
    assert plain.startswith("pk_")
    assert "token" not in again.json()
    assert again.json()["id"] == first.json()["id"]
    assert plain not in str(list(IdempotencyRecord.objects.values()))
    assert ApiToken.objects.get(name="ci").digest == token_digest(plain)


def test_a_token_made_by_a_browser_needs_a_recent_password(browser: Callable[[User], APIClient], bob: User, bob_access: Access) -> None:
    response = browser(bob).post("/api/v1/tokens", {"name": "x", "scope": "read"}, format="json")
    assert problem(response) == (403, "auth.reauthenticate")


def test_a_token_cannot_be_wider_than_its_makers_role(bob_access: Access) -> None:
    with pytest.raises(Refused) as refusal:
        create_token(bob_access, name="x", scope=Scope.ADMIN)
    assert refusal.value.code == "token.scope_exceeds_role"


@pytest.mark.parametrize("days", [0, 366])
def test_a_token_lives_between_a_day_and_a_year(bob_access: Access, days: int) -> None:
    with pytest.raises(Refused) as refusal:
        create_token(bob_access, name="x", scope=Scope.READ, days=days)
    assert refusal.value.code == "token.lifetime"


def test_the_fifty_first_token_is_refused(bob_access: Access) -> None:
    for number in range(50):
        create_token(bob_access, name=f"t{number}", scope=Scope.READ)
    with pytest.raises(TooLarge) as refusal:
        create_token(bob_access, name="one more", scope=Scope.READ)
    assert refusal.value.code == "quota.tokens"
    ApiToken.objects.filter(name="t0").update(expires_at=Now())
    create_token(bob_access, name="one more", scope=Scope.READ)


def test_requests_of_a_token_are_counted_and_limited(api: Api, bob_access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttles, "TOKEN_LIMIT", 3)
    client = api(bob_access)
    answers = [client.get("/api/v1/kpis") for _ in range(8)]
    limited = [answer for answer in answers if answer.status_code == 429]
    assert limited
    assert problem(limited[-1]) == (429, "rate.limited")
    assert 1 <= int(limited[-1]["Retry-After"]) <= 60
    assert answers[0]["RateLimit-Policy"] == '"default";q=3;w=60'
    assert answers[0]["RateLimit"].startswith('"default";r=2;t=')


def test_anonymous_requests_are_limited_by_address(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttles, "ANONYMOUS_LIMIT", 3)
    answers = [api().get("/api/v1/models") for _ in range(8)]
    assert problem(answers[-1]) == (429, "rate.limited")
    assert api().get("/api/v1/models", REMOTE_ADDR="203.0.113.9").status_code == 401


def test_guessed_tokens_are_limited_and_a_forged_forwarded_for_does_not_help(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttles, "GUESS_LIMIT", 3)
    for guess in range(12):
        client = APIClient(HTTP_AUTHORIZATION=f"Bearer pk_{guess}", HTTP_X_FORWARDED_FOR=f"198.51.100.{guess}")
        last = client.get("/api/v1/me")
    assert problem(last) == (429, "rate.limited")


@override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "unix:///nowhere.sock?db=0"}})
def test_without_the_cache_requests_go_on(api: Api, bob_access: Access) -> None:
    assert api(bob_access).get("/api/v1/models").status_code == 200


def test_an_unchanged_answer_is_not_sent_again(api: Api, bob_access: Access) -> None:
    client = api(bob_access)
    first = client.get("/api/v1/kpis")
    again = client.get("/api/v1/kpis", headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_hostile_names_are_stored_printable(api: Api, bob_access: Access) -> None:
    name = "<script>\u202e{{7*7}}\x1b[31m\x00 model"
    response = api(bob_access).post(
        "/api/v1/models", {"upload": complete_upload(bob_access), "name": name.replace("\x00", "")}, format="json"
    )
    assert response.status_code == 201
    assert Model.objects.get().name == "<script>{{7*7}} model"


def test_the_api_docs_load_only_our_own_files(db: None) -> None:
    page = APIClient().get("/api/docs/")
    assert page.status_code == 200
    assert b"http" not in page.content
    assert "unsafe-inline" in page["Content-Security-Policy"].split("style-src")[1].split(";")[0]
    assert "unsafe-inline" not in page["Content-Security-Policy"].split("script-src")[1].split(";")[0]
