"""A change of prices and the new scorecards that follow from it."""

from __future__ import annotations

from django.db import transaction

from parka.accounts.access import Access
from parka.scorecards.models import PriceBook
from parka.scorecards.services import BookChanges, revise_book
from parka.workflow.queue import ServerTask, enqueue


@transaction.atomic
def change_prices(access: Access, changes: BookChanges) -> PriceBook:
    """A new version of the team's prices; finished runs are judged again under it, without hardware. Raises as ``revise_book``."""
    book = revise_book(access, changes)
    enqueue(ServerTask.RESCORE_TEAM, access.team.pk)
    return book
