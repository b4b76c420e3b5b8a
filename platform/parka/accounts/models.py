"""Who may do what: users, teams, memberships with a role, hashed API tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models.functions import Now

from parka.core.models import PublicIdField, TimedModel

if TYPE_CHECKING:
    BaseManager = BaseUserManager["User"]
else:
    BaseManager = BaseUserManager


class UserManager(BaseManager):
    """Users are identified by e-mail."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person; signs in with an e-mail address."""

    public_id = PublicIdField("user")
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(db_default=Now())

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserManager()

    def __str__(self) -> str:
        return self.email

    @property
    def display_name(self) -> str:
        return self.name or self.email.split("@")[0]


class Team(TimedModel):
    """Owner of everything below it."""

    public_id = PublicIdField("team")
    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=120)
    margin = models.FloatField(default=0.03)
    storage_quota_bytes = models.BigIntegerField(default=50 * 2**30)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(margin__gte=0, margin__lte=0.10), name="team_margin_range"),
        ]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    MEMBER = "member", "Member"
    ADMIN = "admin", "Admin"
    OWNER = "owner", "Owner"


class Membership(TimedModel):
    """A user's role in a team."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["team", "user"], name="membership_once")]


class Scope(models.TextChoices):
    READ = "read", "Read"
    RUN = "run", "Run"
    ADMIN = "admin", "Admin"


class ApiToken(TimedModel):
    """``pk_`` token: only its SHA-256 is stored; bound to one team; never more than its creator's role."""

    public_id = PublicIdField("tok")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="api_tokens")
    creator = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True)
    last_four = models.CharField(max_length=4)
    scope = models.CharField(max_length=10, choices=Scope.choices)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True)
    last_used_from = models.GenericIPAddressField(null=True)
    revoked_at = models.DateTimeField(null=True)


class LoginLink(TimedModel):
    """A sign-in link: hash only, one use, one hour."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="login_links")
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
