"""People and their sessions, for every API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from uuid import UUID

import structlog

from gateway.auth.passwords import MAX_LENGTH, MIN_LENGTH, needs_rehash
from gateway.errors import AccountExists, ApiError, Forbidden, NotFound, Unauthorized, ValidationFailed
from gateway.kit.database import database_errors
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model import ids
from sluice.model.address import InvalidAddressError
from sluice.runtime.clock import utc_now
from sluice.store import audit, login_links, memberships, sessions, users
from sluice.store.audit import Actor, ActorKind
from sluice.store.db import Connection
from sluice.store.login_links import Purpose
from sluice.store.secret_tokens import REFRESH, SESSION, is_token
from sluice.store.sessions import Session, SessionRow
from sluice.store.users import User, email_key

log = structlog.get_logger()

_REFUSED = "E-mail address or password is wrong."
_NOT_REFRESHED = "The refresh token is not valid: sign in again."
_USED_UP = "The link is not valid: it was used, it is too old, or a newer one was made."


@dataclass(frozen=True, slots=True)
class Client:
    """Where a login comes from."""

    address: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class Login:
    """A new session; ``token`` is not stored."""

    token: str
    session_id: UUID
    expires_at: datetime
    user: User


def check_new_password(password: str, email: str) -> None:
    """Return if ``password`` may be that of the user with this address.

    Raises:
        ValidationFailed: it is too short, too long, or the address itself.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise ValidationFailed(f"password: must have {MIN_LENGTH} to {MAX_LENGTH} characters", field="password")
    if password.casefold() == email.casefold():
        raise ValidationFailed("password: must not be the e-mail address", field="password")


async def check_password(services: Services, email: str, password: str, client: Client) -> User:
    """The user with this address and password. Unknown users take as long as known ones.

    Raises:
        TooManyRequests: the address or the account has no attempts left.
        Unauthorized: there is no such user, or the password is wrong; the message does not say which.
        Unavailable: PostgreSQL does not answer, or too many logins wait.
    """
    accounts = services.accounts
    key = _account_key(email)
    await accounts.throttle.attempt(key, client.address)
    user = await _find(services, email)
    if not await accounts.passwords.verify(password, None if user is None else user.password_hash) or user is None:
        raise Unauthorized(_REFUSED)
    await accounts.throttle.succeeded(key)
    return user


async def log_in(
    services: Services, email: str, password: str, client: Client, *, token_prefix: str = SESSION
) -> Login:
    """A session for the user with this address and password; see :func:`check_password` for the errors.

    ``token_prefix``: ``REFRESH`` for one whose requests have access tokens.
    """
    user = await check_password(services, email, password, client)
    assert user.password_hash is not None
    rehashed = await services.accounts.passwords.hash(password) if needs_rehash(user.password_hash) else None
    async with transaction(services.pool) as db:
        # The password may have changed while this one was checked: then its sessions have ended, and none begins.
        current = await users.lock_user(db, user.id)
        if current is None or current.password_hash != user.password_hash:
            raise Unauthorized(_REFUSED)
        if rehashed is not None:
            await users.set_password(db, user.id, rehashed)
        return await _begin(db, current, client, "logged_in", token_prefix=token_prefix)


async def sign_up(services: Services, email: str, password: str, name: str, client: Client) -> User:
    """Create a user whose address is not confirmed: only what its own person does there belongs to it.

    Raises:
        Forbidden: this installation creates users by invitation only.
        TooManyRequests: the address has no attempts left.
        ValidationFailed: the password may not be used.
        AccountExists: a user has this address.
        Unavailable: PostgreSQL does not answer, or too many passwords wait.
    """
    accounts = services.accounts
    if not accounts.sign_up_is_open:
        raise Forbidden(
            "This installation creates accounts by invitation only: its operator can allow it (SLUICE_SIGN_UP)."
        )
    await accounts.throttle.attempt(None, client.address)
    check_new_password(password, email)
    password_hash = await accounts.passwords.hash(password)
    async with transaction(services.pool) as db:
        user = await users.create_user(
            db, email, name=name, now=utc_now(), password_hash=password_hash, is_confirmed=False
        )
        if user is None:
            raise AccountExists("There is an account with this e-mail address: sign in.", field="email")
        await _note(db, Actor(ActorKind.USER, user.id, client.address), "signed_up", "user", user.id)
    return user


async def refresh(services: Services, token: str, client: Client) -> tuple[str, UUID, UUID]:
    """Exchange a refresh token: the next one, the session and its user.

    A token serves once. One that comes again was copied, and it is unknown by whom: it ends the session.

    Raises:
        TooManyRequests: the address has no attempts left.
        Unauthorized: the token is not the newest one of a valid session.
        Unavailable: PostgreSQL does not answer.
    """
    await services.accounts.throttle.attempt(None, client.address)
    if not is_token(REFRESH, token):
        raise Unauthorized(_NOT_REFRESHED)
    async with transaction(services.pool) as db:
        exchanged = await sessions.exchange_refresh_token(db, token, now=utc_now())
        ended = await sessions.end_session_of_used_token(db, token) if exchanged is None else None
        if ended is not None:
            session_id, user_id = ended
            actor = Actor(ActorKind.USER, user_id, client.address)
            await _note(db, actor, "ended_by_used_refresh_token", "session", session_id)
    if exchanged is None:
        if ended is not None:
            services.accounts.sessions.forget(ended[1])
        raise Unauthorized(_NOT_REFRESHED)
    return exchanged


def _account_key(email: str) -> str:
    try:
        return email_key(email)
    except InvalidAddressError:
        return email


async def _find(services: Services, email: str) -> User | None:
    try:
        with database_errors():
            return await users.find_user_by_email(services.pool, email)
    except InvalidAddressError:
        return None


async def _begin(db: Connection, user: User, client: Client, action: str, *, token_prefix: str = SESSION) -> Login:
    now = utc_now()
    token, session_id, expires_at = await sessions.create_session(
        db, user.id, address=client.address, user_agent=client.user_agent, now=now, prefix=token_prefix
    )
    await _note(db, Actor(ActorKind.USER, user.id, client.address), action, "session", session_id)
    return Login(token, session_id, expires_at, user)


async def _note(db: Connection, actor: Actor, action: str, noun: str, object_id: UUID) -> None:
    """An audit entry of a user's own account."""
    prefix = "usr" if noun == "user" else "sid"
    await audit.append(
        db,
        actor,
        project_id=None,
        action=action,
        noun=noun,
        object_id=ids.encode_id(prefix, object_id),
        now=utc_now(),
    )


async def list_sessions(services: Services, person: Session, *, limit: int, before: UUID | None) -> list[SessionRow]:
    """The person's sessions, newest first.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    with database_errors():
        return await sessions.list_sessions(services.pool, person.user_id, now=utc_now(), limit=limit, before=before)


async def end_session(services: Services, person: Session, session_id: UUID, actor: Actor) -> None:
    """End one session of the person.

    Raises:
        NotFound: the person has no such session.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool) as db:
        if not await sessions.end_session(db, person.user_id, session_id):
            raise NotFound("You have no such session.")
        await _note(db, actor, "ended", "session", session_id)
    services.accounts.sessions.forget(person.user_id)


async def end_other_sessions(services: Services, person: Session, actor: Actor) -> None:
    """End all sessions of the person but this one.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool) as db:
        await sessions.end_sessions(db, person.user_id, keep=person.id)
        await _note(db, actor, "ended_others", "session", person.id)
    services.accounts.sessions.forget(person.user_id)


async def change_password(services: Services, person: Session, current: str, new: str, actor: Actor) -> None:
    """Replace the person's password. All other sessions and all login links of the person end.

    Raises:
        TooManyRequests: the account has no attempts left.
        ValidationFailed: the current password is wrong, or the new one may not be used.
        Unavailable: PostgreSQL does not answer, or too many passwords wait.
    """
    accounts = services.accounts
    check_new_password(new, person.email)
    key = _account_key(person.email)
    await accounts.throttle.attempt(key, actor.address)
    user = await _find(services, person.email)
    if user is None or not await accounts.passwords.verify(current, user.password_hash):
        raise ValidationFailed("current_password: is wrong", field="current_password")
    await accounts.throttle.succeeded(key)
    new_hash = await accounts.passwords.hash(new)
    async with transaction(services.pool) as db:
        await _replace_password(db, person.user_id, new_hash, keep=person.id)
        await _note(db, actor, "password_changed", "user", person.user_id)
    accounts.sessions.forget(person.user_id)


async def _replace_password(db: Connection, user_id: UUID, password_hash: str, *, keep: UUID | None = None) -> None:
    await users.lock_user(db, user_id)
    await users.set_password(db, user_id, password_hash)
    await sessions.end_sessions(db, user_id, keep=keep)
    await login_links.delete_links(db, user_id)


async def change_name(services: Services, person: Session, name: str, actor: Actor) -> None:
    """Replace the person's name.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool) as db:
        await users.set_name(db, person.user_id, name)
        await _note(db, actor, "updated", "user", person.user_id)
    services.accounts.sessions.forget(person.user_id)


async def request_password_reset(services: Services, email: str, client: Client) -> None:
    """Mail a link to the user with this address, if there is one; the caller does not learn whether.

    Raises:
        TooManyRequests: the address or the account has no attempts left.
        Unavailable: PostgreSQL does not answer.
    """
    # A counter of its own: requests by others must not keep the user from logging in.
    await services.accounts.throttle.attempt(f"reset {_account_key(email)}", client.address)
    services.accounts.mailer.start(_try_password_reset(services, email))  # the answer is as quick for unknown users


async def _try_password_reset(services: Services, email: str) -> None:
    try:
        await _mail_password_reset(services, email)
    except ApiError as error:  # PostgreSQL does not answer
        log.error("system_mail_not_sent", outcome=error.code, detail=str(error))


async def _mail_password_reset(services: Services, email: str) -> None:
    user = await _find(services, email)
    if user is None or not services.accounts.mailer.is_configured:
        return
    async with transaction(services.pool) as db:
        token = await login_links.create_link(db, user.id, Purpose.PASSWORD_RESET, now=utc_now())
    url = f"{services.accounts.dashboard_url}/reset-password#{token}"
    await services.accounts.mailer.mail(
        user.email,
        subject="Set a new password",
        text=f"A new password was requested for your account. The link works once, within an hour:\n\n{url}\n\n"
        "If you did not ask for it, ignore this mail.\n",
    )


async def reset_password(services: Services, token: str, password: str, client: Client) -> Login:
    """Set a new password with a link, and log in. All sessions of the user end.

    Raises:
        TooManyRequests: the address has no attempts left.
        ValidationFailed: the password may not be used.
        Unauthorized: the link is not valid.
        Unavailable: PostgreSQL does not answer, or too many passwords wait.
    """
    await services.accounts.throttle.attempt(None, client.address)
    check_new_password(password, "")
    password_hash = await services.accounts.passwords.hash(password)
    async with transaction(services.pool) as db:
        user = await _take_link(db, token, Purpose.PASSWORD_RESET, client)
        check_new_password(password, user.email)
        await _replace_password(db, user.id, password_hash)
        await users.confirm(db, user.id)
        login = await _begin(db, user, client, "password_reset")
    services.accounts.sessions.forget(user.id)
    return login


async def use_setup_link(services: Services, token: str, password: str | None, client: Client) -> Login:
    """Log in with the link of ``sluice setup-link``; sets the password if one is given.

    Raises:
        TooManyRequests: the address has no attempts left.
        ValidationFailed: the password may not be used.
        Unauthorized: the link is not valid.
        Forbidden: the link works from the gateway's own machine only.
        Unavailable: PostgreSQL does not answer, or too many passwords wait.
    """
    await services.accounts.throttle.attempt(None, client.address)
    password_hash = None
    if password is not None:
        check_new_password(password, "")
        password_hash = await services.accounts.passwords.hash(password)
    async with transaction(services.pool) as db:
        user = await _take_link(db, token, Purpose.SETUP, client)
        if password is not None and password_hash is not None:
            check_new_password(password, user.email)
            await _replace_password(db, user.id, password_hash)
        login = await _begin(db, user, client, "setup_link_used")
    services.accounts.sessions.forget(user.id)
    return login


async def _take_link(db: Connection, token: str, purpose: Purpose, client: Client) -> User:
    link = await login_links.take_link(db, token, purpose, now=utc_now())
    user = None if link is None else await users.find_user(db, link.user_id)
    if link is None or user is None:
        raise Unauthorized(_USED_UP)
    if link.loopback_only and not _is_loopback(client.address):
        raise Forbidden(
            "The link works from the machine of the gateway only: `sluice setup-link --anywhere` makes one."
        )
    return user


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ip_address(address).is_loopback
    except ValueError:
        return False


async def accept_invitation(services: Services, token: str, name: str | None, password: str, client: Client) -> Login:
    """Become a member with an invitation. A new user is created with the password; an existing one proves its own.

    Raises:
        TooManyRequests: the address or the account has no attempts left.
        ValidationFailed: the password of a new user may not be used.
        Unauthorized: the invitation is not valid, or the password of an existing user is wrong.
        Unavailable: PostgreSQL does not answer, or too many passwords wait.
    """
    accounts = services.accounts
    await accounts.throttle.attempt(None, client.address)
    check_new_password(password, "")
    password_hash = await accounts.passwords.hash(password)
    async with transaction(services.pool, *await _project_of(services, token)) as db:
        invitation = await memberships.take_invitation(db, token, now=utc_now())
        if invitation is None:
            raise Unauthorized("The invitation is not valid: it was accepted or revoked, or it is too old.")
        user = await users.create_user(
            db, invitation.email, name=name or "", now=utc_now(), password_hash=password_hash
        )
        if user is None:
            user = await _existing_user(services, db, invitation.email, password)
        else:
            check_new_password(password, user.email)
        await users.confirm(db, user.id)
        await memberships.add_member(db, invitation.project_id, user.id, invitation.role, now=utc_now())
        await audit.append(
            db,
            Actor(ActorKind.USER, user.id, client.address),
            project_id=invitation.project_id,
            action="accepted",
            noun="invitation",
            object_id=ids.encode_id("inv", invitation.id),
            changes={"role": invitation.role.value, "user_id": ids.encode_id("usr", user.id)},
            now=utc_now(),
        )
        login = await _begin(db, user, client, "logged_in")
    accounts.sessions.forget(user.id)
    return login


async def _project_of(services: Services, token: str) -> list[UUID]:
    with database_errors():
        found = await memberships.project_of_invitation(services.pool, token)
    return [] if found is None else [found]


async def _existing_user(services: Services, db: Connection, email: str, password: str) -> User:
    """The user who was created after the invitation, with its own password."""
    await services.accounts.throttle.attempt(_account_key(email), None)
    user = await users.find_user_by_email(db, email)
    if user is None or not await services.accounts.passwords.verify(password, user.password_hash):
        raise Unauthorized("You have an account already: accept the invitation with its password.")
    return user
