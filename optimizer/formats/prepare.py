"""Turns an upload into a folder that loaders may open: the entry file and its external data, nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import InputError
from optimizer.formats.external_data import check_external, external_files, missing
from optimizer.formats.huggingface import CONFIG, FolderSource, is_model_folder, take_folder
from optimizer.formats.onnx_facts import ModelFacts
from optimizer.formats.onnx_graph import CAPS, mapped, walk
from optimizer.formats.onnx_rules import check_rules
from optimizer.formats.refusals import refusal
from optimizer.formats.sniff import FileKind, check_name, magic_kind, sniff
from optimizer.formats.zip_reader import Archive, Member, extract, open_archive
from optimizer.units import MIB

ENTRY = "model.onnx"
PIECE = 4 * MIB
LITTER = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")
NESTED = frozenset({FileKind.ZIP, FileKind.ARCHIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedModel:
    """The entry file in its folder, and what of the bundle was left out."""

    entry: Path
    warnings: tuple[str, ...] = ()


def prepare_model(upload: Path, target_dir: Path, *, file_name: str = "", beside: bool = False) -> Path:
    """The entry file of the upload inside ``target_dir`` (see ``prepare``)."""
    return prepare(upload, target_dir, file_name=file_name, beside=beside).entry


def prepare(upload: Path, target_dir: Path, *, file_name: str = "", beside: bool = False) -> PreparedModel:
    """Check an upload by content and copy what the model needs into the empty folder ``target_dir``.

    ``upload`` is an .onnx, or a zip with one or with a Hugging Face folder; with ``beside``, for files of the user's own machine,
    external data may also lie in the folder of the .onnx, and ``upload`` may be that folder or a Hugging Face folder. ``file_name`` is the name the user gave, if it differs.
    Raises InputError with the codes of security.md 3.2 and 3.3.
    """
    target_dir.mkdir(parents=True, exist_ok=True)
    if upload.is_dir():
        names = {path.name for path in upload.iterdir() if path.is_file()}
        if is_model_folder(names) and not any(name.endswith(".onnx") for name in names):
            return _from_folder(upload, names, target_dir)
        upload = _only_model_of(upload)
    kind = sniff(upload)
    if kind not in (FileKind.ONNX, FileKind.ZIP, FileKind.HUGGING_FACE):
        raise refusal(kind, file_name or upload.name)
    check_name(kind, file_name or upload.name)
    if kind is FileKind.HUGGING_FACE:
        return _from_folder_zip(upload, target_dir)
    if kind is FileKind.ZIP:
        return _from_zip(upload, target_dir)
    return _from_file(upload, target_dir, beside=beside)


def checked_facts(entry: Path) -> ModelFacts:
    """Walk the entry file and check its versions, operators and external data beside it.

    Raises InputError ``onnx.*``.
    """
    facts = _walked(entry)
    check_external(facts.externals(), folder=entry.parent)
    return facts


def _walked(entry: Path) -> ModelFacts:
    with mapped(entry) as view:
        facts = walk(view)
    check_rules(facts)
    external_files(facts.externals())
    return facts


def _only_model_of(folder: Path) -> Path:
    models = sorted(folder.glob("*.onnx"))
    return models[_only_one([model.name for model in models], where="folder")]


def _only_one(names: list[str], *, where: str) -> int:
    if not names:
        raise InputError("format.no_model", f"The {where} holds no .onnx file; add the model exported to ONNX.")
    if len(names) > 1:
        listed = ", ".join(name[-60:] for name in names[:5])
        raise InputError("format.many_models", f"The {where} holds {len(names)} .onnx files ({listed}); keep the one to optimise.")
    return 0


def _from_file(upload: Path, target_dir: Path, *, beside: bool) -> PreparedModel:
    if upload.stat().st_size >= CAPS.file_bytes:
        with mapped(upload):
            pass
    entry = target_dir / ENTRY
    _copy(upload, entry)
    needed = external_files(_walked(entry).externals())
    if needed and not beside:
        raise missing(needed[0])
    for location in needed:
        _copy_beside(upload.parent / location, _place(target_dir, location))
    checked_facts(entry)
    return PreparedModel(entry=entry)


def _copy_beside(source: Path, target: Path) -> None:
    if not source.is_file():
        raise missing(source.name)
    _copy(source, target)


def _from_zip(upload: Path, target_dir: Path) -> PreparedModel:
    with open_archive(upload) as archive:
        files = [member for member in archive.files() if not _is_litter(member.name)]
        _refuse_nested(archive, files)
        models = [member for member in files if member.name.lower().endswith(".onnx")]
        model = models[_only_one([member.name for member in models], where="zip")]
        entry = target_dir / ENTRY
        _extract_entry(archive, model, entry)
        folder = model.name.rpartition("/")[0]
        prefix = f"{folder}/" if folder else ""
        needed = external_files(_walked(entry).externals())
        for location in needed:
            member = archive.members.get(prefix + location)
            if member is None or member.is_folder:
                raise missing(location)
            extract(archive, member, _place(target_dir, location))
    checked_facts(entry)
    used = {model.name, *(prefix + location for location in needed)}
    return PreparedModel(entry=entry, warnings=_left_out([member.name for member in files if member.name not in used]))


def _from_folder(folder: Path, names: set[str], target_dir: Path) -> PreparedModel:
    take_folder(FolderSource(names=names, copy=lambda name, target: _copy(folder / name, target)), target_dir)
    return PreparedModel(entry=target_dir / CONFIG)


def _from_folder_zip(upload: Path, target_dir: Path) -> PreparedModel:
    """The folder of the outermost configuration; tools keep those of parts in folders below it."""
    with open_archive(upload) as archive:
        files = [member for member in archive.files() if not _is_litter(member.name)]
        _refuse_nested(archive, files)
        configs = [member.name for member in files if member.name.rsplit("/", 1)[-1] == CONFIG]
        prefix = min(configs, key=lambda name: (name.count("/"), name))[: -len(CONFIG)]
        inside = {member.name.removeprefix(prefix): member for member in files if member.name.startswith(prefix)}
        taken = take_folder(FolderSource(names=inside, copy=lambda name, target: extract(archive, inside[name], target)), target_dir)
    used = {prefix + name for name in taken}
    return PreparedModel(entry=target_dir / CONFIG, warnings=_left_out([member.name for member in files if member.name not in used]))


def _is_litter(name: str) -> bool:
    return name.startswith(LITTER[0]) or name.rsplit("/", 1)[-1] in LITTER[1:]


def _refuse_nested(archive: Archive, files: list[Member]) -> None:
    for member in files:
        if magic_kind(archive.head(member)) in NESTED:
            raise InputError("zip.nested", f"The zip holds another archive, {member.name[:120]!r}; put its files into one plain .zip.")


def _extract_entry(archive: Archive, model: Member, entry: Path) -> None:
    if model.size_bytes >= CAPS.file_bytes:
        raise InputError("onnx.limit", "An .onnx file must stay below 2 GiB; save it with save_as_external_data=True and pack both files.")
    extract(archive, model, entry)
    kind = sniff(entry)
    if kind is not FileKind.ONNX:
        raise refusal(kind, model.name)


def _place(target_dir: Path, location: str) -> Path:
    """Where an external file goes; its folders are made."""
    if location == ENTRY:
        raise InputError("onnx.external_path", f"The model keeps weights in a file named {ENTRY!r}; save them under another name.")
    target = target_dir / location
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _copy(source: Path, target: Path) -> None:
    """Copy bytes into a new private file; never a link."""
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as out, source.open("rb") as file:
        while piece := file.read(PIECE):
            out.write(piece)


def _left_out(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    listed = ", ".join(name[-60:] for name in names[:5]) + (", …" if len(names) > 5 else "")
    return (f"{len(names)} file{'s' if len(names) > 1 else ''} of the zip not needed by the model were left out: {listed}.",)
