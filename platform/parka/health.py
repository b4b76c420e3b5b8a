"""Is it alive, can it work: for probes, containers and the one-machine supervisor."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

from django.core.cache import cache
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse

WORKER_KEY = "health:worker"
WORKER_SILENT_AFTER_S = 120


def alive(request: HttpRequest) -> HttpResponse:
    """The process answers; touches neither database nor broker."""
    return HttpResponse("ok", content_type="text/plain")


def ready(request: HttpRequest) -> JsonResponse:
    """Database and shared cache answer: 200, else 503 with the one that does not."""
    parts = {"database": database_answers(), "cache": cache_answers()}
    return JsonResponse(parts, status=200 if all(parts.values()) else 503)


def database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return False
    return True


def cache_answers() -> bool:
    try:
        cache.set("health:probe", 1, 10)
        return bool(cache.get("health:probe"))
    except Exception:
        return False


def note_worker_progress(**_: object) -> None:
    """After every finished task: the liveness probe tests progress, not presence."""
    try:
        cache.set(WORKER_KEY, 1, WORKER_SILENT_AFTER_S)
    except Exception:
        return


def worker_progresses() -> bool:
    """Whether a task ended in the last two minutes (the sweeper runs every 15 s)."""
    return cache.get(WORKER_KEY) is not None


def web_answers(url: str = "http://127.0.0.1:8000/healthz") -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - a constant loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> int:
    """``python -m parka.health web|worker``: exit code for a container's health check."""
    if sys.argv[1:] == ["worker"]:
        import django

        django.setup()
        return 0 if worker_progresses() else 1
    return 0 if web_answers() else 1


if __name__ == "__main__":
    sys.exit(main())
