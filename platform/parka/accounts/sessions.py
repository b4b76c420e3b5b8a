"""How long a browser stays signed in: 12 hours without a request, 14 days at most."""

from __future__ import annotations

import time

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest
from django.utils.deprecation import MiddlewareMixin

IDLE_S = 12 * 3600
LONGEST_S = 14 * 24 * 3600
NOTE_EVERY_S = 300
BEGAN, SEEN = "session_began_at", "session_seen_at"


class SessionLimits(MiddlewareMixin):
    """Ends sessions that are idle or old; writes at most every five minutes."""

    def process_request(self, request: HttpRequest) -> None:
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or SESSION_KEY not in request.session:
            return
        session, now = request.session, int(time.time())
        began, seen = session.setdefault(BEGAN, now), session.get(SEEN, now)
        if now - seen > IDLE_S or now - began > LONGEST_S:
            session.flush()
        elif SEEN not in session or now - seen > NOTE_EVERY_S:
            session[SEEN] = now
