from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "parka.accounts"
    label = "accounts"
    default_auto_field = "django.db.models.BigAutoField"
