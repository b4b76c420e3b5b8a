"""Let a person in without a password: prints a link that works once, within an hour."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from parka.accounts.models import User
from parka.accounts.services import login_link


class Command(BaseCommand):
    """For operators with a shell on the server, such as for the first sign-in where no mail is sent."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *arguments: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["email"].lower(), is_active=True).first()
        if user is None:
            raise CommandError("There is no active account with that address.")
        self.stdout.write(f"{settings.PUBLIC_URL}{login_link(user)}")
