from django.apps import AppConfig


class ExperimentsConfig(AppConfig):
    name = "parka.experiments"
    label = "experiments"
    default_auto_field = "django.db.models.BigAutoField"
