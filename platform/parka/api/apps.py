from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "parka.api"
    label = "api"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let drf-spectacular know our extensions."""
        from parka.api import authentication, schema  # noqa: F401
