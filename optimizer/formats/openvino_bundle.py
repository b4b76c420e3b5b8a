"""An OpenVINO IR as it arrives: two files of a zip, a folder or the user's own machine, placed as one pair for loaders."""

from __future__ import annotations

from pathlib import Path

from optimizer.errors import InputError
from optimizer.formats.openvino_rules import WEIGHTS_SUFFIX, check_ir, checked_ir, constants, description_missing, weights_missing
from optimizer.formats.openvino_xml import IrCaps, malformed, read_ir
from optimizer.formats.placing import PreparedModel, copy_private, left_out
from optimizer.formats.refusals import refusal
from optimizer.formats.sniff import FileKind, sniff
from optimizer.formats.zip_reader import Archive, Member, extract
from optimizer.units import MIB

IR_SUFFIX = ".xml"
IR_ENTRY = "model.xml"
IR_WEIGHTS = "model.bin"


def ir_from_file(upload: Path, target_dir: Path, *, file_name: str, beside: bool) -> PreparedModel:
    """The .xml at ``upload`` and, with ``beside``, the .bin of the same name. Raises InputError ``openvino.*``."""
    entry = target_dir / IR_ENTRY
    copy_private(upload, entry)
    if _needs_weights(entry):
        weights = upload.with_suffix(WEIGHTS_SUFFIX)
        if not beside or not weights.is_file():
            raise weights_missing(Path(file_name).with_suffix(WEIGHTS_SUFFIX).name)
        copy_private(weights, target_dir / IR_WEIGHTS)
    checked_ir(entry)
    return PreparedModel(entry=entry)


def ir_from_zip(archive: Archive, files: list[Member], target_dir: Path) -> PreparedModel:
    """The one .xml of the zip and its .bin. Raises InputError ``openvino.*``, ``format.many_models`` and those of the archive."""
    description = _only_description(files)
    if description.size_bytes > IrCaps().file_bytes:
        raise malformed(f"The .xml is larger than {IrCaps().file_bytes // MIB} MiB.")
    entry = target_dir / IR_ENTRY
    extract(archive, description, entry)
    kind = sniff(entry)
    if kind is not FileKind.OPENVINO_IR:
        raise refusal(kind, description.name)
    used = {description.name}
    if _needs_weights(entry):
        weights = _weights_of(description, files)
        extract(archive, weights, target_dir / IR_WEIGHTS)
        used.add(weights.name)
    checked_ir(entry)
    return PreparedModel(entry=entry, warnings=left_out([member.name for member in files if member.name not in used]))


def _only_description(files: list[Member]) -> Member:
    found = [member for member in files if member.name.lower().endswith(IR_SUFFIX)]
    if not found:
        raise description_missing(next(member.name for member in files if member.name.lower().endswith(WEIGHTS_SUFFIX)))
    if len(found) > 1:
        listed = ", ".join(member.name[-60:] for member in found[:5])
        raise InputError("format.many_models", f"The zip holds {len(found)} .xml files ({listed}); keep the one model to optimise.")
    return found[0]


def _weights_of(description: Member, files: list[Member]) -> Member:
    """The .bin of the same name beside the .xml, or the only .bin there is."""
    wanted = description.name[: -len(IR_SUFFIX)] + WEIGHTS_SUFFIX
    candidates = [member for member in files if member.name.lower().endswith(WEIGHTS_SUFFIX)]
    named = [member for member in candidates if member.name.lower() == wanted.lower()] or (candidates if len(candidates) == 1 else [])
    if not named:
        raise weights_missing(wanted.rsplit("/", 1)[-1])
    return named[0]


def _needs_weights(entry: Path) -> bool:
    """Refuses what is wrong in the description itself before any weights are copied."""
    facts = read_ir(entry)
    check_ir(facts)
    return bool(constants(facts))
