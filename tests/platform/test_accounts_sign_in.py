"""Signing in: closed sign-up, rate limits, nothing given away, links that work once, sessions that end."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from django.test import Client

from parka.accounts.access import Access
from parka.accounts.models import LoginLink, Role, User
from parka.accounts.services import add_member, login_link, redeem_login_link
from parka.accounts.sessions import BEGAN, IDLE_S, LONGEST_S, SEEN
from parka.audit.models import SecurityEvent
from parka.core.errors import Forbidden
from tests.platform.conftest import PASSWORD

pytestmark = pytest.mark.django_db
SIGN_IN = "/accounts/login/"


def sign_in(client: Client, email: str, password: str, **extra: Any) -> Any:
    return client.post(SIGN_IN, {"login": email, "password": password}, **extra)


def signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def visible(response: Any, email: str) -> str:
    """The page without its CSRF token and the address that was typed."""
    text = response.content.decode().replace(email, "")
    return re.sub(r'(name="csrfmiddlewaretoken" value=|csrf[^>]*content=|X-CSRFToken[^"]*"[^"]*")"?[^">]*"?|nonce="[^"]*"', "", text)


def test_the_right_password_signs_in_and_is_audited(client: Client, bob: User) -> None:
    assert sign_in(client, bob.email, PASSWORD).status_code == 302
    assert signed_in(client)
    event = SecurityEvent.objects.get(action="login.succeeded")
    assert (event.actor, event.address) == (bob.email, "127.0.0.1")


def test_a_wrong_password_and_an_unknown_account_look_the_same(client: Client, bob: User) -> None:
    wrong = sign_in(client, bob.email, "wrong password here")
    unknown = sign_in(Client(), "nobody@acme.example", "wrong password here")
    assert (wrong.status_code, visible(wrong, bob.email)) == (unknown.status_code, visible(unknown, "nobody@acme.example"))
    assert SecurityEvent.objects.filter(action="login.failed").count() == 2


def test_the_sixth_wrong_password_of_an_account_is_refused_even_if_right(client: Client, bob: User) -> None:
    for number in range(5):
        sign_in(Client(REMOTE_ADDR=f"203.0.113.{number}"), bob.email, "wrong password here")
    sign_in(Client(REMOTE_ADDR="203.0.113.99"), bob.email, PASSWORD)
    late = Client(REMOTE_ADDR="203.0.113.100")
    sign_in(late, bob.email, PASSWORD)
    assert not signed_in(late)


def test_one_address_cannot_try_many_accounts(client: Client, bob: User, vic: User) -> None:
    for number in range(6):
        sign_in(Client(), f"someone{number}@acme.example", "wrong password here")
    sign_in(client, bob.email, PASSWORD)
    assert not signed_in(client)
    elsewhere = Client(REMOTE_ADDR="198.51.100.1")
    sign_in(elsewhere, vic.email, PASSWORD)
    assert signed_in(elsewhere)


def test_a_forged_forwarded_for_does_not_open_a_new_allowance(bob: User) -> None:
    for number in range(6):
        sign_in(Client(), f"a{number}@acme.example", "wrong", headers={"X-Forwarded-For": f"192.0.2.{number}"})
    client = Client()
    sign_in(client, bob.email, PASSWORD, headers={"X-Forwarded-For": "192.0.2.200"})
    assert not signed_in(client)


def test_sign_up_is_closed_unless_the_operator_opens_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    form = {"email": "new@acme.example", "password1": "a long enough one", "password2": "a long enough one"}
    client.post("/accounts/signup/", form)
    assert not User.objects.filter(email="new@acme.example").exists()
    monkeypatch.setenv("PARKA_OPEN_SIGNUP", "1")
    client.post("/accounts/signup/", form)
    assert User.objects.filter(email="new@acme.example").exists()


def test_a_login_link_works_once(client: Client, bob: User) -> None:
    path = login_link(bob)
    assert client.get(path).status_code == 302
    assert signed_in(client)
    again = Client()
    assert again.get(path).status_code == 403
    assert not signed_in(again)
    assert path.split("/")[-2] not in str(list(LoginLink.objects.values()))


@pytest.mark.django_db(transaction=True)
def test_of_eight_simultaneous_clicks_on_a_login_link_one_signs_in(bob: User) -> None:
    plain = login_link(bob).split("/")[-2]

    def click(_: int) -> bool:
        try:
            return redeem_login_link(plain) == bob
        except Forbidden:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(click, range(8))) == 1


def test_a_login_link_ends_after_an_hour_and_a_head_request_does_not_use_it_up(client: Client, bob: User) -> None:
    path = login_link(bob)
    client.head(path)
    assert LoginLink.objects.get().used_at is None
    LoginLink.objects.update(expires_at=Now())
    assert client.get(path).status_code == 403
    assert client.get("/accounts/link/pkl_nonsense/").status_code == 403


def test_a_deactivated_person_cannot_use_a_link(client: Client, bob: User) -> None:
    path = login_link(bob)
    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert client.get(path).status_code == 403


def test_a_new_member_is_told_by_mail_the_same_way_with_and_without_account(
    alice_access: Access, charlie: User, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        add_member(alice_access, email=charlie.email, role=Role.VIEWER)
        add_member(alice_access, email="new@acme.example", role=Role.VIEWER)
    known, new = mail.outbox
    assert known.body == new.body
    assert known.to == [charlie.email]


@pytest.mark.parametrize(("key", "age"), [(SEEN, IDLE_S), (BEGAN, LONGEST_S)])
def test_idle_and_old_sessions_end(client: Client, bob: User, bob_access: Access, key: str, age: int) -> None:
    client.force_login(bob)
    assert client.get("/api/v1/me").status_code == 200
    session = client.session
    session[key] = int(time.time()) - age + 60
    session.save()
    assert client.get("/api/v1/me").status_code == 200
    session = client.session
    session[key] = int(time.time()) - age - 60
    session.save()
    assert client.get("/api/v1/me").status_code == 401


def test_an_operator_can_print_a_link(client: Client, bob: User, settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("login_link", bob.email)
    assert client.get(capsys.readouterr().out.strip().removeprefix(settings.PUBLIC_URL)).status_code == 302
    with pytest.raises(CommandError):
        call_command("login_link", "nobody@acme.example")
