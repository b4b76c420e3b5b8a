"""Forms with our look: classes, hints and errors wired for screen readers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

from django import forms

from parka.accounts.access import ROLE_ORDER, SCOPE_ORDER, Access, role_reaches, scope_reaches
from parka.accounts.models import Role, Scope
from parka.accounts.tokens import DEFAULT_DAYS, MAX_DAYS
from parka.core.errors import PlatformError


class PlainForm(forms.Form):
    """A form whose widgets carry our classes."""

    use_required_attribute = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs.setdefault("class", _class_of(field.widget))

    def offer(self, name: str, choices: list[tuple[str, str]]) -> None:
        """Set the choices of a field."""
        cast(forms.ChoiceField, self.fields[name]).choices = choices

    def take(self, error: PlatformError, *, fields: dict[str, str]) -> None:
        """Show a refusal beside the fields its pointers name, else at the top."""
        for wrong in error.fields:
            self.add_error(_field_of(wrong.pointer, fields), wrong.detail)
        if not error.fields:
            self.add_error(None, error.message)


def _field_of(pointer: str, fields: dict[str, str]) -> str | None:
    """The field of the longest matching pointer."""
    matching = [start for start in fields if pointer == start or pointer.startswith(f"{start}/")]
    return fields[max(matching, key=len)] if matching else None


def _class_of(widget: forms.Widget) -> str:
    if isinstance(widget, forms.CheckboxInput | forms.CheckboxSelectMultiple | forms.RadioSelect):
        return "form-check-input"
    return "form-select" if isinstance(widget, forms.Select) else "form-control"


class ModelForm(PlainForm):
    """What a new upload is called, or which model it is a version of."""

    target = forms.ChoiceField(label="Save as", required=False)
    name = forms.CharField(label="Name of the new model", max_length=120, required=False, help_text="Empty: the file's name.")

    def __init__(self, *args: Any, models: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offer("target", [("", "A new model"), *((slug, f"The next version of {name}") for slug, name in models)])
        if not models:
            del self.fields["target"]


class DatasetForm(PlainForm):
    """Name and metric of a dataset."""

    name = forms.CharField(label="Name", max_length=120, required=False, help_text="Empty: the file's name.")
    metric = forms.ChoiceField(
        label="Metric of its labels",
        required=False,
        choices=[("", "No labels"), ("top1", "Top-1 accuracy")],
        help_text="Only with an array named label.",
    )


class AgentForm(PlainForm):
    """The name of a new agent."""

    name = forms.CharField(label="Name", max_length=120, help_text="What people call the machine, such as lab-a10g.")


class TeamForm(PlainForm):
    """The name of a new team."""

    name = forms.CharField(label="Name", max_length=120)


class MemberForm(PlainForm):
    """A person and a role up to one's own."""

    email = forms.EmailField(label="E-mail address", help_text="A person without account sets a password by the reset mail.")
    role = forms.ChoiceField(label="Role", initial=Role.MEMBER)

    def __init__(self, *args: Any, access: Access, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offer("role", [(role.value, role.label) for role in ROLE_ORDER if role_reaches(access.role, role)])


class TokenForm(PlainForm):
    """Name, scope and life of an API token."""

    name = forms.CharField(label="Name", max_length=80, help_text="Where it is used, such as ci.")
    scope = forms.ChoiceField(label="Scope", initial=Scope.READ)
    days = forms.IntegerField(label="Expires after (days)", min_value=1, max_value=MAX_DAYS, initial=DEFAULT_DAYS)

    def __init__(self, *args: Any, access: Access, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offer("scope", [(scope.value, scope.label) for scope in SCOPE_ORDER if scope_reaches(access.widest_scope, scope)])


class PriceForm(PlainForm):
    """The price of an agent's machine and the team's utilization."""

    agent = forms.ChoiceField(label="Agent", required=False)
    usd_per_hour = forms.DecimalField(label="US dollars per hour", required=False, max_digits=12, decimal_places=6, min_value=Decimal(0))
    source = forms.CharField(label="Source", max_length=120, required=False, help_text="An invoice, a price list, a calculation.")
    dated = forms.CharField(label="Date of the price", max_length=10, required=False, help_text="Such as 2026-04-26.")
    utilization = forms.DecimalField(
        label="Utilization (%)", max_digits=5, decimal_places=1, min_value=Decimal("0.1"), max_value=Decimal(100)
    )
    base_version = forms.IntegerField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, agents: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offer("agent", [("", "No machine, only utilization"), *agents])

    @property
    def own_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ("agent", "usd_per_hour", "source", "dated")]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("agent") and data.get("usd_per_hour") is None and "usd_per_hour" not in self.errors:
            self.add_error("usd_per_hour", "Give the price of one hour.")
        if data.get("usd_per_hour") is not None and not data.get("agent") and "agent" not in self.errors:
            self.add_error("agent", "Choose the machine this price is for.")
        return data
