"""The content-addressed build cache: equal keys mean equal bytes; a build is complete or absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import EngineFault
from optimizer.specs import ModelCard

META = "meta.json"
MODEL = "model"
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A model that can be opened: ``entry`` is relative to ``folder``; ``sha256`` covers names and bytes of all its files."""

    key: str
    folder: Path
    entry: str
    card: ModelCard
    sha256: str
    size_bytes: int
    facts: list[dict[str, Any]] = field(default_factory=list)


class BuildCache:
    """Folders named by build key below ``root``; survives restarts."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def find(self, key: str) -> Build | None:
        """The finished build of that key, or None."""
        folder = self._root / key
        try:
            meta = json.loads((folder / META).read_text())
            card = from_jsonable(ModelCard, meta["card"])
            build = Build(
                key=key, folder=folder / MODEL, entry=meta["entry"], card=card, sha256=meta["sha256"],
                size_bytes=meta["size_bytes"], facts=meta["facts"],
            )  # fmt: skip
        except (OSError, ValueError, KeyError):
            return None
        return build if (build.folder / build.entry).is_file() else None

    def store(self, key: str, *, produced: Path, entry: str, card: ModelCard, facts: list[dict[str, Any]]) -> Build:
        """Take over a folder that a child wrote. Raises EngineFault ``child.output_invalid``."""
        check_files(produced, entry=entry)
        draft = Path(tempfile.mkdtemp(dir=self._root, prefix=".draft-"))
        try:
            shutil.move(produced, draft / MODEL)
            sha256, size_bytes = digest_folder(draft / MODEL)
            meta = {"entry": entry, "card": to_jsonable(card), "sha256": sha256, "size_bytes": size_bytes, "facts": facts}
            (draft / META).write_text(json.dumps(meta))
            self._publish(draft, key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        found = self.find(key)
        if found is None:
            raise EngineFault("build.lost", f"The build {key[:12]} vanished from the cache; check the disk of {self._root}.")
        return found

    def _publish(self, draft: Path, key: str) -> None:
        """Rename into place; whoever was first wins, and an unreadable leftover is replaced."""
        target = self._root / key
        if target.exists() and self.find(key) is None:
            shutil.rmtree(target, ignore_errors=True)
        try:
            draft.rename(target)
        except OSError:
            if self.find(key) is None:
                raise


def check_files(folder: Path, *, entry: str | None = None) -> None:
    """Plain files only, no link that leads elsewhere. Raises EngineFault ``child.output_invalid``."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            mode = (Path(parent) / name).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise EngineFault("child.output_invalid", f"The build holds {name!r}, which is no plain file.")
    if entry is not None and (Path(entry).name != entry or not (folder / entry).is_file()):
        raise EngineFault("child.output_invalid", "The build has no entry file.")


def digest_folder(folder: Path) -> tuple[str, int]:
    """(sha256 over sorted names and contents, bytes of all files)."""
    total, whole = 0, hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
        total += path.stat().st_size
    return whole.hexdigest(), total
