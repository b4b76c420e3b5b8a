"""A Hugging Face folder as it arrives: on the user's own machine or packed into a zip, copied without its code and pickles."""

from __future__ import annotations

from pathlib import Path

from optimizer.formats.huggingface import CONFIG, FolderSource, take_folder
from optimizer.formats.placing import PreparedModel, copy_private, left_out
from optimizer.formats.refusals import refusal
from optimizer.formats.sniff import FileKind
from optimizer.formats.zip_reader import Archive, Member, extract


def hugging_face_from_folder(folder: Path, target_dir: Path) -> PreparedModel:
    """Configuration, weights and tokenizer of ``folder``. Raises what ``take_folder`` does."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    take_folder(FolderSource(names=names, copy=lambda name, target: copy_private(folder / name, target)), target_dir)
    return PreparedModel(entry=target_dir / CONFIG)


def hugging_face_from_zip(archive: Archive, files: list[Member], target_dir: Path) -> PreparedModel:
    """The folder of the outermost configuration; tools keep those of parts in folders below it.

    Raises InputError ``format.not_yet`` for weights alone, what ``take_folder`` does, and those of the archive.
    """
    configs = [member.name for member in files if member.name.rsplit("/", 1)[-1] == CONFIG]
    if not configs:
        raise refusal(FileKind.SAFETENSORS, "")
    prefix = min(configs, key=lambda name: (name.count("/"), name))[: -len(CONFIG)]
    inside = {member.name.removeprefix(prefix): member for member in files if member.name.startswith(prefix)}
    taken = take_folder(FolderSource(names=inside, copy=lambda name, target: extract(archive, inside[name], target)), target_dir)
    used = {prefix + name for name in taken}
    return PreparedModel(entry=target_dir / CONFIG, warnings=left_out([member.name for member in files if member.name not in used]))
