"""What the conformance suite tries passes on, for the tests of single passes."""

from optimizer.conformance.pass_models import (
    AVAILABLE,
    HOST,
    TOKENS,
    Feeds,
    context_for,
    examples_folder,
    folder_digest,
    normal_feeds,
    old_conv,
    outputs_of,
    sentence_feeds,
    untidy,
)

__all__ = [
    "AVAILABLE",
    "HOST",
    "TOKENS",
    "Feeds",
    "context_for",
    "examples_folder",
    "folder_digest",
    "normal_feeds",
    "old_conv",
    "outputs_of",
    "sentence_feeds",
    "untidy",
]
