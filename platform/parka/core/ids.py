"""Public ids: a prefix that names the kind and 96 random bits; never the primary key."""

from __future__ import annotations

import secrets

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 20


def new_public_id(prefix: str) -> str:
    """A fresh id such as ``run_7k2m…``."""
    return f"{prefix}_" + "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
