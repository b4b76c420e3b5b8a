"""Reads models and datasets of any origin within fixed bounds; nothing in a file is executed."""

from optimizer.formats.bindings import bound_shapes, resolved_bindings
from optimizer.formats.inspection import inspect_model
from optimizer.formats.placing import PreparedModel
from optimizer.formats.prepare import prepare, prepare_model
from optimizer.formats.sniff import FileKind, sniff

__all__ = ["FileKind", "PreparedModel", "bound_shapes", "inspect_model", "prepare", "prepare_model", "resolved_bindings", "sniff"]
