from django.apps import AppConfig


class EmbeddedConfig(AppConfig):
    name = "parka.embedded"
    label = "embedded"
