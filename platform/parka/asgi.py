"""The ASGI entry point."""

import os

from django.core.asgi import get_asgi_application

from parka.api.body_limit import BodyLimit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "parka.settings")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
application = BodyLimit(get_asgi_application())  # type: ignore[arg-type]

from parka.dashboard.svg import warm_up  # noqa: E402 - needs the settings of the line above

warm_up()
