"""Secret tokens: 256 random bits behind a prefix that names their kind; only their SHA-256 is ever stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from enum import StrEnum

TOKEN_BYTES = 32
TOKEN_PATTERN = re.compile(r"\bpk[a-z]?_[A-Za-z0-9_-]{16,}")


class TokenKind(StrEnum):
    """Prefix of each kind of token."""

    API = "pk"
    REGISTRATION = "pkr"
    AGENT = "pka"
    LOGIN = "pkl"


def new_token(kind: TokenKind) -> str:
    """A fresh token such as ``pk_…``; show it once and store ``token_digest`` of it."""
    return f"{kind}_{secrets.token_urlsafe(TOKEN_BYTES)}"


def token_digest(plain: str) -> str:
    """SHA-256 (hex) under which a token is stored."""
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def token_matches(plain: str, *, digest: str, kind: TokenKind) -> bool:
    """Whether ``plain`` is a token of that kind with that digest; the comparison takes constant time."""
    return plain.startswith(f"{kind}_") and hmac.compare_digest(token_digest(plain), digest)


def without_tokens(text: str) -> str:
    """The text with every token replaced by its prefix, for logs and messages."""
    return TOKEN_PATTERN.sub(lambda found: found.group().split("_")[0] + "_…", text)
