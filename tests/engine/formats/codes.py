"""What a reader answers: the code of its refusal, or nothing."""

from __future__ import annotations

from collections.abc import Callable

from optimizer.errors import InputError


def refusal_of(call: Callable[[], object]) -> str:
    """The code with which the call refuses its input; empty when it accepts. Any other exception passes through."""
    try:
        call()
    except InputError as error:
        return error.code
    return ""
