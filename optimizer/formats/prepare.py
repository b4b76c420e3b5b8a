"""Turns an upload into a folder that loaders may open: the entry file and its external data, nothing else."""

from __future__ import annotations

from pathlib import Path

from optimizer.errors import InputError
from optimizer.formats.architecture import WEIGHTS, declared_in
from optimizer.formats.architecture_bundle import declared_from_folder, declared_from_zip
from optimizer.formats.external_data import check_external, external_files, missing
from optimizer.formats.huggingface import is_model_folder
from optimizer.formats.huggingface_bundle import hugging_face_from_folder, hugging_face_from_zip
from optimizer.formats.onnx_facts import ModelFacts
from optimizer.formats.onnx_graph import CAPS, mapped, walk
from optimizer.formats.onnx_rules import check_rules
from optimizer.formats.openvino_bundle import ir_from_file, ir_from_zip
from optimizer.formats.openvino_rules import WEIGHTS_SUFFIX, description_missing
from optimizer.formats.placing import PreparedModel, copy_private, left_out
from optimizer.formats.refusals import refusal
from optimizer.formats.sniff import HEAD_BYTES, FileKind, check_name, magic_kind, sniff
from optimizer.formats.zip_reader import Archive, Member, extract, open_archive

ENTRY = "model.onnx"
LITTER = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")
READ = frozenset({FileKind.ONNX, FileKind.ZIP, FileKind.OPENVINO_IR, FileKind.HUGGING_FACE, FileKind.DECLARED})
NESTED = frozenset({FileKind.ZIP, FileKind.ARCHIVE})


def prepare_model(upload: Path, target_dir: Path, *, file_name: str = "", beside: bool = False) -> Path:
    """The entry file of the upload inside ``target_dir`` (see ``prepare``)."""
    return prepare(upload, target_dir, file_name=file_name, beside=beside).entry


def prepare(upload: Path, target_dir: Path, *, file_name: str = "", beside: bool = False, unpickle: bool = False) -> PreparedModel:
    """Check an upload by content and copy what the model needs into the empty folder ``target_dir``.

    ``upload`` is an .onnx, an OpenVINO .xml, or a zip with one, with a Hugging Face folder or with weights and their declared
    architecture; with ``beside``, for files of the user's own machine, external data and weights may also lie in the folder of the
    model, and ``upload`` may be that folder. ``file_name`` is the name the user gave, if it differs. ``unpickle`` allows PyTorch's own
    weight files: in a child at sandbox level A. Raises InputError with the codes of security.md 3.2 and 3.3.
    """
    target_dir.mkdir(parents=True, exist_ok=True)
    if upload.is_dir():
        if is_declared_folder(upload):
            return declared_from_folder(upload, target_dir, unpickle=unpickle)
        if not _described_in(upload) and is_model_folder({path.name for path in upload.iterdir() if path.is_file()}):
            return hugging_face_from_folder(upload, target_dir)
        upload = _only_model_of(upload)
    kind = sniff(upload)
    if kind not in READ:
        raise refusal(kind, file_name or upload.name)
    check_name(kind, file_name or upload.name)
    if magic_kind(_head(upload)) is FileKind.ZIP:
        return _from_zip(upload, target_dir, kind=kind, unpickle=unpickle)
    if kind is FileKind.OPENVINO_IR:
        return ir_from_file(upload, target_dir, file_name=file_name or upload.name, beside=beside)
    return _from_file(upload, target_dir, beside=beside)


def is_declared_folder(folder: Path) -> bool:
    """Whether a folder holds weights and their declared architecture, and no finished model."""
    return not _described_in(folder) and declared_in({path.name for path in folder.iterdir() if path.is_file()}) is not None


def _head(upload: Path) -> bytes:
    with upload.open("rb") as file:
        return file.read(HEAD_BYTES)


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


def _described_in(folder: Path) -> list[Path]:
    """The .onnx files of a folder, or else its OpenVINO descriptions."""
    graphs = [path for path in sorted(folder.glob("*.onnx")) if path.is_file()]
    return graphs or [path for path in sorted(folder.glob("*.xml")) if path.is_file() and sniff(path) is FileKind.OPENVINO_IR]


def _only_model_of(folder: Path) -> Path:
    models = _described_in(folder)
    if not models and (weights := sorted(folder.glob("*.bin"))):
        raise description_missing(weights[0].name)
    return models[_only_one([model.name for model in models], where="folder")]


def _only_one(names: list[str], *, where: str) -> int:
    if not names:
        raise InputError(
            "format.no_model",
            f"The {where} holds no .onnx file; add the model exported to ONNX, an OpenVINO .xml with its .bin, or a Hugging Face "
            "config.json with its model.safetensors.",
        )
    if len(names) > 1:
        listed = ", ".join(name[-60:] for name in names[:5])
        raise InputError("format.many_models", f"The {where} holds {len(names)} .onnx files ({listed}); keep the one to optimise.")
    return 0


def _from_file(upload: Path, target_dir: Path, *, beside: bool) -> PreparedModel:
    if upload.stat().st_size >= CAPS.file_bytes:
        with mapped(upload):
            pass
    entry = target_dir / ENTRY
    copy_private(upload, entry)
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
    copy_private(source, target)


def _from_zip(upload: Path, target_dir: Path, *, kind: FileKind, unpickle: bool) -> PreparedModel:
    with open_archive(upload) as archive:
        files = [member for member in archive.files() if not _is_litter(member.name)]
        if kind is FileKind.OPENVINO_IR:
            # the first bytes of raw weights may be any, those of an archive too
            _refuse_nested(archive, [member for member in files if not member.name.lower().endswith(WEIGHTS_SUFFIX)])
            return ir_from_zip(archive, files, target_dir)
        if kind is FileKind.DECLARED:
            # PyTorch's weight files are archives themselves, and are read as such
            _refuse_nested(archive, [member for member in files if not member.name.lower().endswith(WEIGHTS)])
            return declared_from_zip(archive, files, target_dir, unpickle=unpickle)
        _refuse_nested(archive, files)
        if kind is FileKind.HUGGING_FACE:
            return hugging_face_from_zip(archive, files, target_dir)
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
    return PreparedModel(entry=entry, warnings=left_out([member.name for member in files if member.name not in used]))


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
