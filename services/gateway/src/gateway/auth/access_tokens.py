"""Access tokens of the project API: JWTs that name a user and a session, signed by this installation."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from joserfc.jwt import JWTClaimsRegistry

from gateway.errors import Unauthorized
from gateway.kit.strict_json import no_duplicates
from sluice.runtime.clock import utc_now
from sluice.store.cipher import KeySource

LIFETIME = timedelta(hours=1)

_ALGORITHM = "HS256"
_ISSUER, _AUDIENCE = "sluice", "sluice project api"
_HEADER = {"alg", "kid", "typ"}  # no other one: none can name a key, or where to find one
_MAX_LENGTH = 1_000  # characters; ours have 400
_KEY_ID = 8  # bytes
_CLOCK_TOLERANCE = 5  # seconds: the clock of another gateway may be behind; an expiry has no tolerance
_INVALID = "The access token is not valid or has expired: sign in again, or refresh it."


class AccessClaims(NamedTuple):
    """Whom a token names."""

    user_id: UUID
    session_id: UUID


class AccessTokens:
    """Signs and reads tokens. The algorithm is fixed, and a key serves nothing else.

    The keys are derived from the encryption keys of the installation and are rotated with them: the first signs, each
    verifies. They are read again for a token whose key is unknown.
    """

    def __init__(self, keys: KeySource) -> None:
        self._source = keys
        self._keys: dict[str, OctKey] = {}
        self._current = ""
        self._read_keys()

    def issue(self, claims: AccessClaims, *, now: datetime) -> str:
        """A token that is valid for :data:`LIFETIME`."""
        at = int(now.timestamp())
        content = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "sub": str(claims.user_id),
            "sid": str(claims.session_id),
            "nbf": at - _CLOCK_TOLERANCE,
            "exp": at + int(LIFETIME.total_seconds()),
        }
        header = {"alg": _ALGORITHM, "kid": self._current}
        return jwt.encode(header, content, self._keys[self._current], algorithms=[_ALGORITHM])

    def read(self, token: str) -> AccessClaims:
        """Whom a token names; whether the session still exists is not checked here.

        Raises:
            Unauthorized: the token is not one of ours, or its time is over; the message does not say which.
        """
        try:
            return self._verified(token)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise Unauthorized(_INVALID) from None

    def _verified(self, token: str) -> AccessClaims:
        if len(token) > _MAX_LENGTH:
            raise ValueError("too long")
        found = jwt.decode(token, self._key_of, algorithms=[_ALGORITHM], decoder_cls=_Decoder)
        if not found.header.keys() <= _HEADER:
            raise ValueError("a header of another issuer")
        _registry().validate(found.claims)
        return AccessClaims(UUID(found.claims["sub"]), UUID(found.claims["sid"]))

    def _key_of(self, token: Any) -> OctKey:
        key_id = token.headers()["kid"]
        if key_id not in self._keys:
            self._read_keys()
        return self._keys[key_id]

    def _read_keys(self) -> None:
        secrets = [hmac.digest(key, b"sluice access token", "sha256") for key in self._source()]
        ids = [hashlib.sha256(secret).hexdigest()[: 2 * _KEY_ID] for secret in secrets]
        self._keys = {key_id: OctKey.import_key(secret) for key_id, secret in zip(ids, secrets, strict=True)}
        self._current = ids[0]


class _Decoder(json.JSONDecoder):
    """Refuses a claim that is there twice: readers differ in which they take."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=no_duplicates)


def _registry() -> JWTClaimsRegistry:
    required: dict[str, Any] = {name: {"essential": True} for name in ("sub", "sid", "nbf", "exp")}
    return JWTClaimsRegistry(
        now=int(utc_now().timestamp()),
        iss={"essential": True, "value": _ISSUER},
        aud={"essential": True, "value": _AUDIENCE},
        **required,
    )
