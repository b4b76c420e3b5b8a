"""Text that people hand in: cut, stripped of control and direction marks, turned into slugs."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from django.db.models import Model, QuerySet
from django.utils.text import slugify

ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")
BLANKS = "\t\r\n"
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def clean_line(text: str, *, limit: int) -> str:
    """One printable line of at most ``limit`` characters: no ANSI codes, control or bidirectional marks."""
    return " ".join(printable(text[: limit * 8]).split())[:limit].strip()


def printable(text: str) -> str:
    """The text without ANSI codes, control and bidirectional marks; line breaks and tabs become blanks."""
    plain = ANSI.sub("", text)
    return "".join(" " if sign in BLANKS else sign for sign in plain if sign in BLANKS or unicodedata.category(sign) not in HIDDEN)


def clean_json(value: Any, *, limit: int = 1024) -> Any:
    """The same JSON with every text printable and at most ``limit`` characters long."""
    if isinstance(value, str):
        return printable(value[:limit])
    if isinstance(value, dict):
        return {printable(str(key)[:limit]): clean_json(item, limit=limit) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean_json(item, limit=limit) for item in value]
    return value


def free_slug(rows: QuerySet[Model], *, text: str, fallback: str, limit: int = 60) -> str:
    """A slug of ``text`` that no row of the queryset has yet: ``resnet50``, ``resnet50-2``, …"""
    stem = slugify(text)[:limit].strip("-_") or fallback
    taken = set(rows.filter(slug__startswith=stem).values_list("slug", flat=True))
    if stem not in taken:
        return stem
    number = 2
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"
