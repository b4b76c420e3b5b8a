"""Make the one-machine form usable: a team with an owner, an API token, and a registration for this machine."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from parka.accounts import services as accounts
from parka.accounts import tokens
from parka.accounts.access import access_for
from parka.accounts.models import Scope
from parka.embedded.stack import AGENT_NAME, OWNER_EMAIL, TEAM_NAME
from parka.fleet import services as fleet

TOKEN_LIFE_DAYS = 1


class Command(BaseCommand):
    """Prints one JSON object: team, email, password (only when just made), api_token, login_path, registration_token."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--register", action="store_true", help="also make an agent and its registration token")

    @transaction.atomic
    def handle(self, *arguments: Any, **options: Any) -> None:
        user, team, password = accounts.ensure_demo_team(OWNER_EMAIL, TEAM_NAME)
        access = access_for(user, team.slug)
        _, api_token = tokens.create_token(access, name="this machine's demo", scope=Scope.ADMIN, days=TOKEN_LIFE_DAYS)
        registration = fleet.create_agent(access, name=AGENT_NAME)[1] if options["register"] else None
        answer = {
            "team": team.slug,
            "email": user.email,
            "password": password,
            "api_token": api_token,
            "login_path": tokens.login_link(user),
            "registration_token": registration,
        }
        self.stdout.write(json.dumps(answer))
