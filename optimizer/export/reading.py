"""Opens a bundle, zip or folder, of any origin: bounded, checked against its manifest, nothing of it executed."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from optimizer.codec import from_jsonable
from optimizer.errors import InputError
from optimizer.export.contents import DESCRIPTION, MANIFEST, RECORD, REQUIREMENTS, SAMPLES, SCHEMA, Described, FileEntry, Recorded
from optimizer.formats.zip_names import check_name
from optimizer.formats.zip_reader import extract, open_archive
from optimizer.specs import SHAPES_MOST
from optimizer.units import MIB

TEXT_BYTES = 64 * MIB
MOST_SAMPLES = 1_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A checked bundle. The model's entry file exists; ``described`` and ``recorded`` are validated, still somebody else's claims."""

    root: Path
    described: Described
    recorded: Recorded
    requirements: tuple[str, ...]

    @property
    def model_folder(self) -> Path:
        return (self.root / self.described.entry).parent

    @property
    def samples_folder(self) -> Path:
        return self.root / SAMPLES


def open_bundle(path: Path, *, folder: Path) -> Bundle:
    """The bundle at ``path``; a zip is unpacked into the new ``folder``.

    Raises InputError ``input.missing``, ``zip.*``, ``bundle.not_one``, ``bundle.incomplete``, ``bundle.damaged``, ``bundle.version``.
    """
    if not path.exists():
        raise InputError("input.missing", f"There is no bundle {str(path)!r}.")
    root = path if path.is_dir() else _unpacked(path, folder)
    for name in (MANIFEST, DESCRIPTION):
        if not (root / name).is_file():
            raise InputError("bundle.not_one", f"{str(path)!r} is no bundle: {name} is missing. Give the zip of parka-optimize export.")
    _check_manifest(root)
    described = _validated(Described, _json(root, DESCRIPTION), DESCRIPTION)
    recorded = _validated(Recorded, _json(root, RECORD), RECORD)
    _check_claims(root, described, recorded)
    requirements = tuple(_text(root, REQUIREMENTS).splitlines())
    return Bundle(root=root, described=described, recorded=recorded, requirements=requirements)


def _unpacked(path: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    with open_archive(path) as archive:
        for member in archive.files():
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            extract(archive, member, target)
    return folder


def _check_manifest(root: Path) -> None:
    """Every file that a replay reads is the one that was exported; servers' files may have been adapted since."""
    manifest = _validated(dict[str, FileEntry], _json(root, MANIFEST), MANIFEST)
    for name in (DESCRIPTION, RECORD, REQUIREMENTS, f"{SAMPLES}/inputs.npz", f"{SAMPLES}/outputs.npz"):
        if name not in manifest:
            raise InputError("bundle.incomplete", f"The manifest lists no {name}; export the bundle again.")
    for name, entry in manifest.items():
        if name.startswith(("model/", f"{SAMPLES}/")) or name in (DESCRIPTION, RECORD, REQUIREMENTS):
            _check_file(root, name, entry)


def _check_file(root: Path, name: str, entry: FileEntry) -> None:
    check_name(name)
    path = root / name
    if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
        raise InputError("bundle.incomplete", f"The bundle's {name[:120]!r} is missing; export or download it again.")
    with path.open("rb") as file:
        if path.stat().st_size != entry.size_bytes or hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
            raise InputError(
                "bundle.damaged", f"The bundle's {name[:120]!r} is not the one that was exported; export or download it again."
            )


def _check_claims(root: Path, described: Described, recorded: Recorded) -> None:
    if described.schema_version != SCHEMA:
        raise InputError("bundle.version", f"The bundle has schema {described.schema_version}, this version reads {SCHEMA}.")
    check_name(described.entry)
    if not described.entry.startswith("model/") or not (root / described.entry).is_file():
        raise InputError("bundle.incomplete", "The bundle's model file is missing; export or download it again.")
    if not 1 <= described.samples <= MOST_SAMPLES:
        raise InputError("bundle.damaged", f"The bundle claims {described.samples} samples; 1 to {MOST_SAMPLES:,} are possible.")
    if len(described.traffic) > SHAPES_MOST:
        raise InputError("bundle.damaged", f"The bundle claims {len(described.traffic)} shapes; at most {SHAPES_MOST} are possible.")
    numbers = (*recorded.start_latencies_p50_ms, recorded.block_s)
    if not all(math.isfinite(one) and one > 0 for one in numbers) or not 0 <= recorded.margin <= 0.10:
        raise InputError("bundle.damaged", "The bundle's recorded latencies, block length or margin are impossible numbers.")


def _validated(kind: type[T], data: object, name: str) -> T:
    try:
        return from_jsonable(kind, data)
    except InputError as error:
        raise InputError("bundle.damaged", f"The bundle's {name} is not understood: {error.message}") from None


def _json(root: Path, name: str) -> Any:
    try:
        return json.loads(_text(root, name))
    except (ValueError, RecursionError):
        raise InputError("bundle.damaged", f"The bundle's {name} is no JSON; export or download it again.") from None


def _text(root: Path, name: str) -> str:
    path = root / name
    try:
        if path.stat().st_size > TEXT_BYTES:
            raise InputError("bundle.damaged", f"The bundle's {name} is larger than {TEXT_BYTES // MIB} MiB.")
        return path.read_text(encoding="utf-8")
    except OSError:
        raise InputError("bundle.incomplete", f"The bundle's {name} is missing; export or download it again.") from None
    except UnicodeDecodeError:
        raise InputError("bundle.damaged", f"The bundle's {name} is no text; export or download it again.") from None
