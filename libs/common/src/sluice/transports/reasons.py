"""Words for what went wrong on a connection: one table for every transport.

An exception's own text is never used: it can hold a URL, and a URL a token.
"""

from __future__ import annotations

import socket

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiosmtplib.errors import SMTPResponseException, SMTPServerDisconnected

from sluice.transports.outgoing import ForbiddenAddressError

# Most special first.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the host name was not found"),
    (socket.gaierror, "the host name was not found"),
    (aiohttp.ClientConnectorCertificateError, "the server's certificate is not valid"),
    (aiohttp.ClientSSLError, "TLS failed"),
    (aiohttp.ClientConnectorError, "the connection was refused"),
    (ConnectionRefusedError, "the connection was refused"),
    (aiohttp.ServerDisconnectedError, "the server closed the connection"),
    (SMTPServerDisconnected, "the server closed the connection"),
    (aiohttp.ClientPayloadError, "the response broke off"),
    (HttpProcessingError, "the response was not HTTP"),
    (SMTPResponseException, "the reply was not SMTP"),
    (aiohttp.InvalidURL, "the address is not valid"),
    (ConnectionResetError, "the connection was reset"),
    (TimeoutError, "the deadline has passed"),
    (ForbiddenAddressError, "the address of the host is not allowed"),
    (OSError, "the connection broke"),
    (ValueError, "the request cannot be written; is there a line break in the credentials?"),
)


def describe_error(error: Exception) -> str:
    """The reason in words; the exception's class where it has none."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), type(error).__name__)
