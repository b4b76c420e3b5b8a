"""How a pass says that it could not, or need not, do its work."""

from __future__ import annotations

from optimizer.errors import InputError


class PassFailed(InputError):
    """The pass could not rewrite this model; the original and the other candidates are unaffected."""

    def __init__(self, message: str) -> None:
        super().__init__("pass.failed", message)


class NoChange(InputError):
    """The pass found nothing to rewrite."""

    def __init__(self, message: str) -> None:
        super().__init__("pass.no_change", message)


class ChangedOutputs(InputError):
    """A rewrite that must keep the outputs changed them."""

    def __init__(self, message: str) -> None:
        super().__init__("pass.changed_outputs", message)
