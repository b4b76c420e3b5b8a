"""Names that a zip member may have: plain, relative, the same file on every system."""

from __future__ import annotations

import re
import unicodedata

from optimizer.errors import InputError

MAX_NAME_BYTES = 1_024
MAX_PARTS = 32
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")
DRIVE = re.compile(r"[A-Za-z]:")


def check_name(name: str) -> None:
    """Raises InputError ``zip.path`` for an absolute, climbing, reserved, over-long or otherwise strange name."""
    fault = _fault(name)
    if fault:
        raise InputError("zip.path", f"The archive's member {name[:120]!r} {fault}; pack the files under plain relative names.")


def _fault(name: str) -> str:
    if not name or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        return "has no name, or one of more than 1,024 bytes"
    if name.startswith("/") or DRIVE.match(name):
        return "has an absolute path"
    if "\\" in name:
        return "has a backslash in its path"
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in name):
        return "has a control character in its name"
    parts = name.removesuffix("/").split("/")
    if len(parts) > MAX_PARTS:
        return f"lies more than {MAX_PARTS} folders deep"
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty part, '.' or '..' in its path"
    if any(RESERVED.fullmatch(part) or part.endswith((" ", ".")) for part in parts):
        return "has a name that some systems reserve"
    return ""


def folded(name: str) -> str:
    """The form under which two names are the same file on a system that ignores case and composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.removesuffix("/")).casefold())
