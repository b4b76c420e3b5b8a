"""Weights with their declared architecture as they arrive, in a folder or a zip: converted to ONNX or to a Hugging Face folder.

PyTorch's own weight files are pickles. They are opened only where the caller says so, in a child at sandbox level A, and only as
tables of tensors.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from optimizer.errors import InputError
from optimizer.formats.architecture import NAMES, Architecture, declared_in, read_architecture, weights_of
from optimizer.formats.huggingface import CONFIG, WEIGHTS, FolderSource, take_folder
from optimizer.formats.placing import PreparedModel, copy_private, left_out
from optimizer.formats.refusals import refusal
from optimizer.formats.sniff import FileKind, sniff
from optimizer.formats.zip_reader import Archive, Member, extract

ENTRY = "model.onnx"
WORK = ".declared"
Copy = Callable[[str, Path], None]


def declared_from_folder(folder: Path, target_dir: Path, *, unpickle: bool) -> PreparedModel:
    """The model of a folder with a declaration and weights. Raises InputError ``architecture.*``, ``torch.*``, ``safetensors.*``."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    taken = _taken(names, lambda name, place: copy_private(folder / name, place), target_dir, unpickle=unpickle)
    return PreparedModel(entry=taken.entry)


def declared_from_zip(archive: Archive, files: list[Member], target_dir: Path, *, unpickle: bool) -> PreparedModel:
    """The same of a zip: the outermost declaration and the weights beside it."""
    declarations = [member.name for member in files if member.name.rsplit("/", 1)[-1] in NAMES]
    first = min(declarations, key=lambda name: (name.count("/"), name))
    prefix = first[: first.rfind("/") + 1]
    inside = {member.name.removeprefix(prefix): member for member in files if member.name.startswith(prefix)}
    taken = _taken(inside, lambda name, place: extract(archive, inside[name], place), target_dir, unpickle=unpickle)
    used = {prefix + name for name in taken.names}
    return PreparedModel(entry=taken.entry, warnings=left_out([member.name for member in files if member.name not in used]))


class _Taken:
    """The entry that loaders open, and the names of the files that were read for it."""

    def __init__(self, entry: Path, names: Collection[str]) -> None:
        self.entry, self.names = entry, names


def _taken(names: Collection[str], copy: Copy, target_dir: Path, *, unpickle: bool) -> _Taken:
    declaration = declared_in(names)
    if declaration is None:
        raise InputError("format.no_model", f"No weights lie beside {NAMES[0]}; put both into one folder of the zip.")
    work = target_dir / WORK
    work.mkdir()
    try:
        copy(declaration, work / declaration)
        architecture = read_architecture(work / declaration)
        file_name = weights_of(architecture, names)
        weights = work / f"weights{Path(file_name).suffix}"
        copy(file_name, weights)
        _check_weights(weights, file_name, unpickle=unpickle)
        return _Taken(_converted(architecture, weights, target_dir), (declaration, file_name))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_weights(path: Path, file_name: str, *, unpickle: bool) -> None:
    kind = sniff(path)
    wanted = FileKind.SAFETENSORS if path.suffix == ".safetensors" else FileKind.TORCH
    if kind is not wanted:
        raise refusal(kind, file_name)
    if kind is FileKind.TORCH and not unpickle:
        raise InputError(
            "agent.sandbox_too_weak",
            "PyTorch's own weight files are opened in a sandbox of level A only: install bubblewrap, or save the weights with "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors').",
        )


def _converted(architecture: Architecture, weights: Path, target_dir: Path) -> Path:
    torch_layers = importlib.import_module("optimizer.torch_layers")  # heavy, and few uploads need it
    if architecture.config is None:
        entry = target_dir / ENTRY
        torch_layers.convert(architecture, torch_layers.read_weights(weights, within=architecture.within), entry)
        return entry
    folder = weights.parent / "folder"
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(architecture.config))
    if weights.suffix == ".safetensors" and not architecture.prefix and not architecture.within:
        weights.rename(folder / WEIGHTS)
    else:
        torch_layers.save_weights(
            torch_layers.read_weights(weights, within=architecture.within), folder / WEIGHTS, prefix=architecture.prefix
        )
    take_folder(FolderSource(names={CONFIG, WEIGHTS}, copy=lambda name, place: copy_private(folder / name, place)), target_dir)
    return target_dir / CONFIG
