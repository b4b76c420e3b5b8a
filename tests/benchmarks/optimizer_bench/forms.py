"""What a tool made of a model, or why it made nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from optimizer.formats import inspect_model
from optimizer.pipeline import Build
from optimizer.pipeline.builds import digest_folder
from optimizer.specs import BackendSettings, Recipe

ORIGINAL, PARKA, PARKA_QUARTER = "original", "parka", "parka_quarter"
OURS = (PARKA, PARKA_QUARTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One runnable form. ``seconds``: what the tool took, from its start to this file."""

    maker: str
    label: str
    build: Build
    recipe: Recipe
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A tool that gave nothing, with its own words."""

    maker: str
    label: str
    reason: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchForm:
    """A module as ``torch_form`` of its exhibit makes it. ``seconds``: compiling is part of every start and not counted here."""

    maker: str
    label: str
    torch_form: str
    model: Path
    precision: str
    compiled: bool
    threads: int
    seconds: float = 0.0

    def job(self, examples: Path, *, outputs: Path | None = None) -> str:
        return json.dumps(
            {
                "torch_form": self.torch_form,
                "model": str(self.model),
                "precision": self.precision,
                "compiled": self.compiled,
                "threads": self.threads,
                "examples": str(examples),
                "outputs": str(outputs) if outputs else None,
            }
        )


Made = Form | TorchForm | Absent
Runnable = Form | TorchForm


def form_of(maker: str, label: str, *, folder: Path, entry: str, backend: str, settings: BackendSettings, seconds: float = 0.0) -> Form:
    """The model ``folder/entry``, to be opened by ``backend``."""
    sha256, size_bytes = digest_folder(folder)
    build = Build(key=sha256, folder=folder, entry=entry, card=inspect_model(folder / entry), sha256=sha256, size_bytes=size_bytes)
    return Form(maker=maker, label=label, build=build, recipe=Recipe(backend=backend, settings=settings), seconds=seconds)
