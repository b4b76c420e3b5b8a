"""Ground rules shared by every app: numbers, blobs, tokens, texts, addresses."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as some

from parka.core.addresses import client_address
from parka.core.blobs import BlobStore, file_sha256
from parka.core.counters import next_number
from parka.core.errors import NotFound
from parka.core.text import clean_json, clean_line
from parka.core.tokens import TokenKind, new_token, token_digest, token_matches, without_tokens
from parka.core.transitions import own_columns
from parka.experiments.models import Run


def take_number(_: int) -> int:
    try:
        with transaction.atomic():
            return next_number("team:1:run")
    finally:
        connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_numbers_taken_at_once_have_no_gaps_and_no_doubles() -> None:
    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(take_number, range(12))) == list(range(1, 13))


@pytest.mark.django_db(transaction=True)
def test_a_number_whose_row_was_never_written_is_given_again() -> None:
    with transaction.atomic():
        assert next_number("team:1:run") == 1
        transaction.set_rollback(True)
    assert take_number(0) == 1


@pytest.mark.django_db(transaction=True)
def test_a_number_is_only_given_inside_the_transaction_that_uses_it() -> None:
    assert not connection.in_atomic_block
    with pytest.raises(transaction.TransactionManagementError):
        next_number("team:1:run")


def test_a_blob_is_written_once_read_only_and_shared_by_content(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    sha256 = store.put_bytes(b"content")
    second = tmp_path / "second"
    second.write_bytes(b"content")
    store.put_file(second, file_sha256(second))
    assert not second.exists()
    path = store.path(sha256)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert path.stat().st_nlink == 1
    assert store.open(sha256).read() == b"content"
    assert [one for one in (tmp_path / "blobs").rglob("*") if one.is_file()] == [path]


def test_an_absent_blob_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as refusal:
        BlobStore(tmp_path).open("0" * 64)
    assert refusal.value.code == "artifact.missing"


def test_a_token_matches_its_own_digest_and_kind_only() -> None:
    plain = new_token(TokenKind.API)
    assert token_matches(plain, digest=token_digest(plain), kind=TokenKind.API)
    assert not token_matches(plain, digest=token_digest(plain), kind=TokenKind.AGENT)
    assert not token_matches(plain + "x", digest=token_digest(plain), kind=TokenKind.API)
    assert len({new_token(TokenKind.API) for _ in range(50)}) == 50


@pytest.mark.parametrize("kind", list(TokenKind))
def test_tokens_do_not_reach_logs(kind: TokenKind) -> None:
    plain = new_token(kind)
    assert without_tokens(f"Bearer {plain} was sent") == f"Bearer {kind}_… was sent"


@given(some.text(max_size=300))
def test_a_cleaned_line_is_one_printable_short_line(text: str) -> None:
    line = clean_line(text, limit=40)
    assert len(line) <= 40
    assert line == line.strip()
    assert not any(sign in line for sign in "\n\r\t\x00\x1b\u202e\u2066\u200f")
    assert clean_line(line, limit=40) == line


def test_json_from_a_child_is_cut_and_printable() -> None:
    value = clean_json({"na\x00me": ["a\u202eb", "x" * 5000, 3, None, {"deep": "\x1b[31mred"}]})
    assert value == {"name": ["ab", "x" * 1024, 3, None, {"deep": "red"}]}


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "198.51.100.7", "10.0.0.1"),
        (1, "198.51.100.7", "198.51.100.7"),
        (1, "6.6.6.6, 198.51.100.7", "198.51.100.7"),
        (2, "6.6.6.6, 198.51.100.7, 10.0.0.9", "198.51.100.7"),
        (2, "198.51.100.7", "10.0.0.1"),
        (1, "nonsense", ""),
    ],
)
def test_the_address_is_believed_as_far_as_our_own_proxies_wrote_it(settings: Any, proxies: int, forwarded: str, expected: str) -> None:
    settings.PROXY_COUNT = proxies
    request = RequestFactory().get("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=forwarded)
    assert client_address(request) == expected


def test_a_conditional_update_must_not_join() -> None:
    with pytest.raises(TypeError, match="must not join"):
        own_columns(Run.objects.filter(agent__state="active"))
    assert own_columns(Run.objects.filter(agent=1, state="queued")) is not None
