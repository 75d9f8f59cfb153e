"""Members of a project and invitations, for every API."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

from gateway.auth.permissions import ROLE_PERMISSIONS
from gateway.auth.principal import KeyPrincipal, Principal
from gateway.errors import AlreadyMember, Forbidden, LastOwner, NotFound, ValidationFailed
from gateway.kit.transactions import transaction
from gateway.members.shown_name import shown_name
from gateway.services import Services
from sluice.model import ids
from sluice.model.roles import Role
from sluice.runtime.clock import utc_now
from sluice.store import audit, memberships, users
from sluice.store.audit import Actor
from sluice.store.db import Connection
from sluice.store.memberships import Invitation, Member
from sluice.store.users import User, email_key

NO_MEMBER = "The project has no such member."
NO_INVITATION = "The project has no such invitation."
MAX_INVITATIONS = 100  # of a project, that wait for an answer


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation that was made. ``url``: only where no mail was sent, for the inviting person to pass on."""

    invitation: Invitation
    url: str | None


def _require_power(principal: Principal, *roles: Role) -> None:
    """Return if the principal may do all that the roles may: none gives or takes more than its own."""
    for role in roles:
        if role not in _roles_within(principal):
            raise Forbidden(f"Only an {Role.OWNER.value} of the project gives or takes the role {role.value}.")


def _roles_within(principal: Principal) -> set[Role]:
    """The roles that may do no more than the principal."""
    return {role for role in Role if ROLE_PERMISSIONS[role] <= principal.permissions}


async def list_members(services: Services, principal: Principal, *, limit: int, before: UUID | None) -> list[Member]:
    """The members of the principal's project.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await memberships.list_members(db, principal.project_id, limit=limit, before=before)


async def add(services: Services, principal: Principal, email: str, role: Role, actor: Actor) -> Member | Invited:
    """Make the person with this address a member; one without an account is invited by mail.

    So is one whose address is not confirmed: a sign-up does not prove that it is the person's.

    Raises:
        AlreadyMember: the person is a member.
        Forbidden: the role, or that of the invitation that this one would replace, may do more than the principal.
        TooManyRequests: the person, the project, the recipient or the client has no invitations left for now.
        ValidationFailed: too many invitations wait for an answer.
        Unavailable: PostgreSQL does not answer.
    """
    _require_power(principal, role)
    async with transaction(services.pool, principal.project_id) as db:
        user = await users.find_user_by_email(db, email)
        if user is not None and not user.is_confirmed:
            user = None
        if user is not None:
            member = await _add(db, principal, user, role, actor)
        else:
            await _count_mail(services, principal, email, actor)
            invitation, token = await _invite(db, principal, email, role, actor)
    if user is None:
        return Invited(invitation, await _mail(services, invitation, token, principal))
    services.accounts.sessions.forget(user.id)
    return member


async def _add(db: Connection, principal: Principal, user: User, role: Role, actor: Actor) -> Member:
    now = utc_now()
    if not await memberships.add_member(db, principal.project_id, user.id, role, now=now):
        raise AlreadyMember("The person is a member of the project already.", field="email")
    await _note(db, principal, actor, "added", "member", ids.encode_id("usr", user.id), role=role.value)
    return Member(user.id, user.email, user.name, role, now)


async def _invite(db: Connection, principal: Principal, email: str, role: Role, actor: Actor) -> tuple[Invitation, str]:
    invited_by = None if isinstance(principal, KeyPrincipal) else principal.user_id
    invited = await memberships.invite(
        db,
        principal.project_id,
        email,
        role,
        invited_by=invited_by,
        now=utc_now(),
        replaces=_roles_within(principal),
    )
    if invited is None:
        raise Forbidden("The person has an invitation with a role that may do more than yours.")
    invitation, token = invited
    await _check_number(db, principal)
    await _note(
        db, principal, actor, "created", "invitation", ids.encode_id("inv", invitation.id), role=role.value, email=email
    )
    return invitation, token


async def _check_number(db: Connection, principal: Principal) -> None:
    if await memberships.count_invitations(db, principal.project_id, now=utc_now()) > MAX_INVITATIONS:
        raise ValidationFailed(
            f"At most {MAX_INVITATIONS} invitations of a project may wait for an answer: revoke one first.",
            field="email",
        )


async def _count_mail(services: Services, principal: Principal, email: str, actor: Actor) -> None:
    """Count a mail to an address that a person has chosen: the installation is no relay.

    Raises:
        TooManyRequests: the person, the project, the recipient or the client has none left.
    """
    throttle = services.accounts.throttle
    await throttle.attempt(f"invitation by {actor.id}", actor.address)
    await throttle.attempt(f"invitation to project {principal.project_id}", None)
    await throttle.attempt(f"invitation of {email_key(email)}", None)


async def _mail(services: Services, invitation: Invitation, token: str, principal: Principal) -> str | None:
    """Send the invitation; its link, if no mail was sent."""
    url = f"{services.accounts.dashboard_url}/accept-invitation#{token}"
    project = services.config.projects.get(principal.project_id)
    name = "a project" if project is None else shown_name(project.name)
    sent = await services.accounts.mailer.mail(
        invitation.email,
        subject=f"Invitation to {name}",
        text=f"You are invited to {name} as {invitation.role.value}. The link works once, within a week:\n\n{url}\n",
    )
    return None if sent else url


async def set_role(services: Services, principal: Principal, user_id: UUID, role: Role, actor: Actor) -> Member:
    """Replace a member's role; the member's sessions get it at once.

    Raises:
        NotFound: the project has no such member.
        LastOwner: the member is the only owner.
        Forbidden: the member's role, or the new one, may do more than the principal.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        member = await _locked(db, principal, user_id)
        _require_power(principal, member.role, role)
        if member.role is role:
            return member
        await _keep_an_owner(db, member, role, principal)
        await memberships.set_role(db, principal.project_id, user_id, role)
        await _note(
            db,
            principal,
            actor,
            "updated",
            "member",
            ids.encode_id("usr", user_id),
            role=role.value,
            before=member.role.value,
        )
    services.accounts.sessions.forget(user_id)
    return replace(member, role=role)


async def remove(services: Services, principal: Principal, user_id: UUID, actor: Actor) -> None:
    """Remove a member.

    Raises:
        NotFound: the project has no such member.
        LastOwner: the member is the only owner.
        Forbidden: the member's role may do more than the principal.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        member = await _locked(db, principal, user_id)
        _require_power(principal, member.role)
        await _keep_an_owner(db, member, None, principal)
        await memberships.remove_member(db, principal.project_id, user_id)
        await _note(db, principal, actor, "removed", "member", ids.encode_id("usr", user_id), before=member.role.value)
    services.accounts.sessions.forget(user_id)


async def _locked(db: Connection, principal: Principal, user_id: UUID) -> Member:
    await memberships.lock_members(db, principal.project_id)
    member = await memberships.find_member(db, principal.project_id, user_id)
    if member is None:
        raise NotFound(NO_MEMBER)
    return member


async def _keep_an_owner(db: Connection, member: Member, role: Role | None, principal: Principal) -> None:
    if member.role is not Role.OWNER or role is Role.OWNER:
        return
    if await memberships.count_owners(db, principal.project_id) == 1:
        raise LastOwner("The project needs a member who may do everything: give another one that role first.")


async def list_invitations(
    services: Services, principal: Principal, *, limit: int, before: UUID | None
) -> list[Invitation]:
    """The invitations of the principal's project that wait for an answer.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await memberships.list_invitations(db, principal.project_id, now=utc_now(), limit=limit, before=before)


async def resend_invitation(services: Services, principal: Principal, invitation_id: UUID, actor: Actor) -> Invited:
    """Mail an invitation again, with another link; the one before does not work any more.

    Raises:
        NotFound: the project has no such invitation.
        Forbidden: its role may do more than the principal.
        TooManyRequests: the person, the project, the recipient or the client has no invitations left for now.
        ValidationFailed: too many invitations wait for an answer.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        invitation = await _locked_invitation(db, principal, invitation_id)
        await _count_mail(services, principal, invitation.email, actor)
        invitation, token = await memberships.renew_invitation(db, principal.project_id, invitation_id, now=utc_now())
        await _check_number(db, principal)
        await _note(db, principal, actor, "resent", "invitation", ids.encode_id("inv", invitation_id))
    return Invited(invitation, await _mail(services, invitation, token, principal))


async def _locked_invitation(db: Connection, principal: Principal, invitation_id: UUID) -> Invitation:
    """An invitation whose role may do no more than the principal, locked until the transaction ends."""
    invitation = await memberships.find_invitation(db, principal.project_id, invitation_id)
    if invitation is None:
        raise NotFound(NO_INVITATION)
    _require_power(principal, invitation.role)
    return invitation


async def page_of_members(
    services: Services, principal: Principal, *, limit: int, offset: int
) -> tuple[list[Member], int]:
    """The members of the principal's project, without the first ``offset``, and how many it has.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        total = await memberships.count_members(db, principal.project_id)
        return await memberships.list_members(db, principal.project_id, limit=limit, offset=offset), total


async def page_of_invitations(
    services: Services, principal: Principal, *, limit: int, offset: int
) -> tuple[list[Invitation], int]:
    """The invitations that wait for an answer, without the first ``offset``, and how many there are.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    now = utc_now()
    async with transaction(services.pool, principal.project_id) as db:
        total = await memberships.count_invitations(db, principal.project_id, now=now)
        found = await memberships.list_invitations(db, principal.project_id, now=now, limit=limit, offset=offset)
    return found, total


async def revoke_invitation(services: Services, principal: Principal, invitation_id: UUID, actor: Actor) -> None:
    """Revoke an invitation.

    Raises:
        NotFound: the project has no such invitation.
        Forbidden: its role may do more than the principal.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        await _locked_invitation(db, principal, invitation_id)
        await memberships.revoke_invitation(db, principal.project_id, invitation_id)
        await _note(db, principal, actor, "revoked", "invitation", ids.encode_id("inv", invitation_id))


async def _note(
    db: Connection, principal: Principal, actor: Actor, action: str, noun: str, object_id: str, **changes: str
) -> None:
    await audit.append(
        db,
        actor,
        project_id=principal.project_id,
        action=action,
        noun=noun,
        object_id=object_id,
        changes=changes,
        now=utc_now(),
    )
