"""API tokens and sign-in links: made once, stored as a digest, checked against the creator's current role."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from parka.accounts.access import Access, Capability, scope_reaches
from parka.accounts.models import ApiToken, LoginLink, Membership, Role, Scope, Team, User
from parka.audit.services import record
from parka.core.errors import FieldError, Forbidden, Refused, TooLarge, Unauthorized
from parka.core.text import clean_line
from parka.core.tokens import TokenKind, new_token, token_digest, token_matches
from parka.core.transitions import own_columns

DEFAULT_DAYS = 90
MAX_DAYS = 365
TOKENS_PER_TEAM = 50
LINK_LIVES = timedelta(hours=1)
LAST_USE_GRAIN = timedelta(minutes=1)


@transaction.atomic
def create_token(access: Access, *, name: str, scope: Scope, days: int = DEFAULT_DAYS) -> tuple[ApiToken, str]:
    """A token and its plain text, which is shown once.

    Raises Refused ``token.lifetime`` ``token.scope_exceeds_role``, TooLarge ``quota.tokens``.
    """
    access.require(Capability.OWN_TOKENS)
    title = clean_line(name, limit=80)
    if not title:
        raise Refused("request.invalid", fields=(FieldError(pointer="/name", code="field.blank", detail="Give the token a name."),))
    if not 1 <= days <= MAX_DAYS:
        raise Refused("token.lifetime")
    if not scope_reaches(access.widest_scope, scope):
        raise Refused("token.scope_exceeds_role")
    Team.objects.select_for_update().get(pk=access.team.pk)
    if ApiToken.objects.filter(team=access.team, revoked_at=None, expires_at__gt=Now()).count() >= TOKENS_PER_TEAM:
        raise TooLarge("quota.tokens")
    plain = new_token(TokenKind.API)
    token = ApiToken.objects.create(
        team=access.team,
        creator=access.user,
        name=title,
        digest=token_digest(plain),
        last_four=plain[-4:],
        scope=scope,
        expires_at=Now() + timedelta(days=days),
    )
    token.refresh_from_db(fields=["expires_at"])
    record("token.created", **access.trail, target=token.name, after={"scope": scope, "expires_at": token.expires_at.isoformat()})
    return token, plain


@transaction.atomic
def revoke_token(access: Access, *, token: ApiToken) -> None:
    """End a token at once; one's own, or any for those who manage tokens."""
    access.require(Capability.OWN_TOKENS if token.creator_id == access.user.pk else Capability.MANAGE_TOKENS)
    if ApiToken.objects.filter(team=access.team, pk=token.pk, revoked_at=None).update(revoked_at=Now()):
        record("token.revoked", **access.trail, target=token.name)


def token_access(plain: str, *, address: str = "") -> Access:
    """The access a ``pk_`` token grants now. Raises Unauthorized ``token.invalid`` or ``token.expired``."""
    rows = ApiToken.objects.select_related("team", "creator").annotate(alive=Q(expires_at__gt=Now()))
    token = rows.filter(digest=token_digest(plain), revoked_at=None).first()
    if token is None or not token_matches(plain, digest=token.digest, kind=TokenKind.API):
        raise Unauthorized("token.invalid")
    membership = Membership.objects.filter(team_id=token.team_id, user_id=token.creator_id, user__is_active=True).first()
    if membership is None:
        raise Unauthorized("token.invalid")
    if not token.alive:
        raise Unauthorized("token.expired")
    _note_use(token, address=address)
    return Access(
        team=token.team,
        user=token.creator,
        role=Role(membership.role),
        scope=Scope(token.scope),
        address=address,
        via=f"{token.name}, token …{token.last_four}",
    )


@transaction.atomic
def login_link(user: User) -> str:
    """A path that signs the user in once, within an hour."""
    plain = new_token(TokenKind.LOGIN)
    LoginLink.objects.create(user=user, digest=token_digest(plain), expires_at=Now() + LINK_LIVES)
    record("login_link.created", actor=user.email, target=user.email)
    return f"/accounts/link/{plain}/"


@transaction.atomic
def redeem_login_link(plain: str, *, address: str = "") -> User:
    """The user of an unused link; using it up is one conditional UPDATE on its own columns. Raises Forbidden ``link.invalid``."""
    link = LoginLink.objects.filter(digest=token_digest(plain), used_at=None, expires_at__gt=Now())
    user = User.objects.filter(login_links__digest=token_digest(plain), is_active=True).first()
    if not own_columns(link).update(used_at=Now()) or user is None:
        raise Forbidden("link.invalid")
    record("login_link.used", actor=user.email, target=user.email, address=address)
    return user


def _note_use(token: ApiToken, *, address: str) -> None:
    """Remember the last use, at most once a minute per token."""
    stale = Q(last_used_at=None) | Q(last_used_at__lt=Now() - LAST_USE_GRAIN)
    ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=Now(), last_used_from=address or None)
