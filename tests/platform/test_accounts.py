"""Teams, members and roles."""

from __future__ import annotations

import pytest
from django.db import transaction

from parka.accounts import selectors
from parka.accounts.access import Access, Capability, access_for
from parka.accounts.models import Membership, Role, Scope, Team, User
from parka.accounts.services import add_member, change_role, create_team, ensure_demo_team, remove_member
from parka.audit.models import SecurityEvent
from parka.audit.services import record
from parka.core.errors import Conflict, Forbidden, NotFound, Refused

pytestmark = pytest.mark.django_db


def test_a_stranger_and_an_absent_team_get_the_same_answer(charlie: User, team: Team) -> None:
    with pytest.raises(NotFound) as strange:
        access_for(charlie, team.slug)
    with pytest.raises(NotFound) as absent:
        access_for(charlie, "no-such-team")
    assert (strange.value.code, strange.value.message) == (absent.value.code, absent.value.message)


def test_a_deactivated_account_has_no_access(bob: User, team: Team) -> None:
    bob.is_active = False
    bob.save()
    with pytest.raises(NotFound):
        access_for(bob, team.slug)


@pytest.mark.parametrize(
    ("role", "capability", "allowed"),
    [
        (Role.VIEWER, Capability.READ, True),
        (Role.VIEWER, Capability.UPLOAD, False),
        (Role.MEMBER, Capability.RUN, True),
        (Role.MEMBER, Capability.CANCEL_ANY, False),
        (Role.MEMBER, Capability.EDIT_PRICES, False),
        (Role.ADMIN, Capability.MANAGE_AGENTS, True),
        (Role.ADMIN, Capability.MANAGE_ROLES, False),
        (Role.OWNER, Capability.MANAGE_ROLES, True),
    ],
)
def test_roles_allow_what_the_table_says(alice: User, team: Team, role: Role, capability: Capability, allowed: bool) -> None:
    assert Access(team=team, user=alice, role=role).may(capability) is allowed


def test_a_token_scope_narrows_the_role(alice: User, team: Team) -> None:
    access = Access(team=team, user=alice, role=Role.OWNER, scope=Scope.READ)
    assert access.may(Capability.READ)
    with pytest.raises(Forbidden, match="scope") as refusal:
        access.require(Capability.UPLOAD)
    assert refusal.value.code == "token.scope"


def test_the_last_owner_cannot_step_down(alice_access: Access, alice: User) -> None:
    mine = selectors.member(alice_access, alice.public_id)
    with pytest.raises(Refused) as refusal:
        change_role(alice_access, member=mine, role=Role.MEMBER)
    assert refusal.value.code == "member.last_owner"
    with pytest.raises(Refused):
        remove_member(alice_access, member=mine)


def test_an_owner_may_step_down_once_there_is_another(alice_access: Access, alice: User, bob: User) -> None:
    change_role(alice_access, member=selectors.member(alice_access, bob.public_id), role=Role.OWNER)
    change_role(alice_access, member=selectors.member(alice_access, alice.public_id), role=Role.VIEWER)
    assert Membership.objects.get(user=alice).role == Role.VIEWER


def test_only_owners_change_roles(ada_access: Access, bob: User) -> None:
    with pytest.raises(Forbidden) as refusal:
        change_role(ada_access, member=selectors.member(ada_access, bob.public_id), role=Role.ADMIN)
    assert refusal.value.code == "forbidden"


def test_an_admin_cannot_make_an_owner_nor_remove_one(ada_access: Access, alice: User) -> None:
    with pytest.raises(Forbidden, match="own"):
        add_member(ada_access, email="eve@acme.example", role=Role.OWNER)
    with pytest.raises(Forbidden, match="own"):
        remove_member(ada_access, member=selectors.member(ada_access, alice.public_id))


def test_a_member_may_leave(bob_access: Access, bob: User) -> None:
    remove_member(bob_access, member=selectors.member(bob_access, bob.public_id))
    assert not Membership.objects.filter(user=bob).exists()


def test_adding_a_member_twice_is_a_conflict(alice_access: Access) -> None:
    add_member(alice_access, email="Dora@acme.example", role=Role.MEMBER)
    with pytest.raises(Conflict) as refusal:
        add_member(alice_access, email="dora@acme.example", role=Role.VIEWER)
    assert refusal.value.code == "member.exists"


def test_members_of_another_team_are_invisible(charlie_access: Access, bob: User) -> None:
    with pytest.raises(NotFound):
        selectors.member(charlie_access, bob.public_id)


def test_teams_of_the_same_name_get_different_slugs(alice: User, charlie: User) -> None:
    assert create_team(alice, name="Vision Lab").slug == "vision-lab"
    assert create_team(charlie, name="Vision Lab").slug == "vision-lab-2"


def test_a_team_needs_a_visible_name(alice: User) -> None:
    with pytest.raises(Refused):
        create_team(alice, name="\u202e \x1b[31m")


def test_the_demo_team_is_made_once(db: None) -> None:
    user, team, password = ensure_demo_team("Demo@parka.local", "Demo")
    again_user, again_team, no_password = ensure_demo_team("demo@parka.local", "Demo")
    assert (again_user, again_team, no_password) == (user, team, None)
    assert password
    assert user.check_password(password)


def test_every_change_leaves_an_audit_event(alice_access: Access, bob: User) -> None:
    change_role(alice_access, member=selectors.member(alice_access, bob.public_id), role=Role.ADMIN)
    event = SecurityEvent.objects.get(action="role.changed")
    assert (event.target, event.before, event.after) == (bob.email, {"role": "member"}, {"role": "admin"})
    assert event.actor.startswith("alice@acme.example")


@pytest.mark.django_db(transaction=True)
def test_an_audit_event_outside_a_transaction_is_refused(db: None) -> None:
    with pytest.raises(transaction.TransactionManagementError):
        record("role.changed", actor="nobody")
