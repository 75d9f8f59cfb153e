"""Any SMTP submission server (RFC 5321, 3463, 6409, 8314). Field names as Nodemailer's, read 2026-08.

The recipients that the server accepts get the mail. What it says about the others makes the outcome divided (see
docs/decisions/0022): each refused recipient is settled by itself, and no other one gets the mail twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydantic import Field, SecretStr

from sluice.model.address import Address, parse_address
from sluice.model.message import Channel, Email
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Divided,
    Outcome,
    Part,
    ProviderFault,
    RecipientRejected,
    Refusal,
    Scope,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.providers.contract import Credentials, OutboundMessage, Package, TransportKind, UnsupportedMessageError
from sluice.providers.kit.bounces import ENHANCED_CODE, FULL_WORDS, SIZE_WORDS, SPAM_WORDS
from sluice.providers.kit.error_table import fill
from sluice.providers.kit.mime import write_mail
from sluice.providers.kit.responses import MAX_RETRY_AFTER
from sluice.providers.kit.smtp_types import EHLO_NAME, DividedReply, Phase, SmtpReply, SmtpServer, Submission


class SmtpAuth(Credentials):
    """User and password; without this block the relay is used unauthenticated."""

    user: str = Field(min_length=1, max_length=320, title="User")
    password: SecretStr = Field(alias="pass", title="Password")


class SmtpTls(Credentials):
    """How much of the server's certificate is checked."""

    reject_unauthorized: bool = Field(default=True, alias="rejectUnauthorized", title="Check the certificate")
    ca_file: str | None = Field(default=None, alias="caFile", title="File with the certificate authority")
    servername: str | None = Field(default=None, title="Name in the certificate, when not the host")


class SmtpCredentials(Credentials):
    """A submission server. ``secure``: TLS from the first byte; by default on port 465 only.

    TLS is required unless ``requireTLS`` is false: a machine on the way could remove STARTTLS from the server's
    features, and read every mail.
    """

    host: str = Field(pattern=r"^[A-Za-z0-9._:\[\]-]{1,253}$", title="Host")
    port: int | None = Field(default=None, ge=1, le=65535, title="Port (465 with secure, otherwise 587)")
    secure: bool | None = Field(default=None, title="TLS from the first byte")
    auth: SmtpAuth | None = Field(default=None, title="Authentication")
    tls: SmtpTls = Field(default_factory=SmtpTls, title="TLS")
    require_tls: bool = Field(
        default=True, alias="requireTLS", title="Require TLS; without it a mail may go in the clear"
    )
    envelope_from: str | None = Field(default=None, alias="envelopeFrom", title="Address for bounces")
    name: str | None = Field(default=None, pattern=EHLO_NAME, title="Name in EHLO, when not the installation's")
    max_recipients: int = Field(
        default=100, ge=1, le=10_000, alias="maxRecipients", title="Recipients of one transaction, at most"
    )

    @property
    def implicit_tls(self) -> bool:
        return self.port == 465 if self.secure is None else self.secure

    @property
    def server(self) -> SmtpServer:
        """Where the transport connects. A password is never sent in the clear: ``auth`` requires TLS."""
        return SmtpServer(
            host=self.host.strip("[]"),
            port=self.port or (465 if self.implicit_tls else 587),
            implicit_tls=self.implicit_tls,
            require_tls=self.require_tls or self.auth is not None,
            user=self.auth.user if self.auth else None,
            password=self.auth.password if self.auth else None,
            verify=self.tls.reject_unauthorized,
            ca_file=self.tls.ca_file,
            servername=self.tls.servername,
            ehlo_name=self.name,
        )


def build(message: OutboundMessage, credentials: SmtpCredentials) -> Submission:
    """The mail and its envelope. The Message-ID and every byte stay the same over all attempts."""
    mail = message.content
    if not isinstance(mail, Email):
        raise UnsupportedMessageError("SMTP carries e-mail only")
    sender = parse_address(credentials.envelope_from or mail.sender)
    recipients = {a.bare: a for a in map(parse_address, [*mail.to, *mail.cc, *mail.bcc])}
    if message.envelope is not None:
        recipients = {bare: address for bare, address in recipients.items() if bare in message.envelope}
    if not recipients:
        raise UnsupportedMessageError("the mail has no recipient")
    return Submission(
        server=credentials.server,
        sender=sender.bare,
        recipients=tuple(recipients),
        message=write_mail(mail, message_id=message.message_id, date=message.created_at, contents=message.attachments),
        utf8=not all(address.ascii for address in (sender, *recipients.values(), *_written(mail))),
        envelope_id=message.reference if re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", message.reference) else None,
        max_recipients=credentials.max_recipients,
    )


def _written(mail: Email) -> Iterator[Address]:
    """Every address in the header, also of recipients who are not in the envelope of a divided mail."""
    return map(parse_address, filter(None, (mail.sender, *mail.to, *mail.cc, mail.reply_to)))


# What a reply means, decided by what it is about. The first row that matches decides: enhanced codes and texts stand
# before basic codes, because servers use the same basic code for "the mailbox is wrong" and for "you may not". A row's
# pattern is matched against "<code> <first enhanced code of the text whose class agrees with the code, else -> <text>".

_ANY = frozenset(Phase)
_CONTENT = frozenset({Phase.DATA, Phase.END_OF_DATA})
_MESSAGE = _CONTENT | {Phase.MAIL, Phase.RCPT}
_EARLY = frozenset({Phase.GREETING, Phase.EHLO, Phase.TLS})
_TOO_LARGE = Declined(Reason.TOO_LARGE)
_UNSUPPORTED = Declined(Reason.UNSUPPORTED)
_SENDER = Declined(Reason.SENDER)
_REPUTATION = Declined(Reason.REPUTATION, scope=Scope.ACCOUNT)
_QUOTA = Declined(Reason.QUOTA, scope=Scope.ACCOUNT)
_POLICY = Declined(Reason.POLICY, scope=Scope.ACCOUNT)
_GREYLISTED = Throttled(scope=Scope.RECIPIENT)
_MAX_TEXT = 1_000  # characters of a reply that are looked at: a server may send 32,000

# Words about this client, its account, its sender, the mailbox, the size, the content.
_CLIENT = r"(\bip\b|\bhosts?\b|\[[0-9a-f.:]+\])"
_BLOCKED = (
    rf"5\d\d .*(client host|{_CLIENT}.{{0,100}}\bblocked\b|\bblocked\b.{{0,100}}({_CLIENT}|\blists?\b|using)|"
    r"block(ed)? ?list|black ?list|\bdnsbl|\brbl\b|spamhaus|reputation|\bhelo\b|\behlo\b)"
)
_LIMIT = (
    r"5\d\d (5\.4\.5 |.*(daily|hourly|weekly|monthly|sending|sent|outgoing|outbound|account|plan|rate|relay).{0,60}"
    r"(limit|quota))"
)
_OWN_ACCOUNT = r"5\d\d .*(your account|subscription|billing|payment|trial)"
_CLOSED = r".*(suspend|disabled|inactive|overdue|expired|required|not active)"
_RELAY = r"530 |5\d\d (-|5\.7\.[01]) .*(relay|rcpthosts|authenticat|pop.{0,3}before.{0,3}smtp)"
_FROM = (
    r"5\d\d .*(sender|send as|mail from|from address|return.path|not owned|not authori[sz]ed to send|not verified|"
    r"\bspf\b|\bdkim\b|dmarc)"
)
# Exim's answer to a sender that its own check does not find; it goes on to speak of accounts and block lists.
_SENDER_CHECK = r"5\d\d .*(sender.{0,20}verif|verif.{0,20}sender)"
_CLIENT_REFUSED = (
    r"5\d\d .*(\b(ip|ptr|rdns)\b|\b\d+(\.\d+){3}\b|reverse dns|\b(your|client|denied)\b.{0,40}\bhost|too many)"
)
_FULL = rf"5\d\d .*{FULL_WORDS}"
_SIZE = rf"5\d\d .*({SIZE_WORDS})"
_SPAM = rf"5\d\d .*({SPAM_WORDS})"
# A rejected recipient needs a phrase whose subject is the mailbox: a single word of it ("unknown", "invalid", "user")
# stands in replies about us as well.
_PLAIN = r"55[013] (-|5\.[01]\.\d+) .*"
_BOX = r"\b(user|mail ?box|recipient|addressee|account|alias|address|local.part)\b"
_OF_BOX = rf"({_BOX}[:,]?|@[^\s@]+)( (for|of|is|was|has|been|currently|[^\s@]*@\S*)){{0,5}}"
_UNKNOWN_BOX = (
    rf"{_PLAIN}(\bno such (\w+ )?{_BOX}|\bno {_BOX} (here|by|with|named|found)\b|unrout\w+ address|"
    rf"\b(unknown|invalid|undeliverable|non-?existent) ((local|virtual|e-?mail|recipient) )?{_BOX}|"
    rf"\bnot an? (valid|known|existing) {_BOX}|({_BOX}|@)((?!\byour\b).){{0,60}} (does not|doesn.t) exist|"
    rf"{_OF_BOX} (unknown|unavailable|invalid|undeliverable|non-?existent|"
    r"(not|no longer) (found|known|valid|local|here|available|exist)))"
)
_CLOSED_BOX = rf"{_PLAIN}{_OF_BOX} (suspended|disabled|inactive|not active|deactivated)\b"

Rule = tuple[frozenset[Phase], re.Pattern[str], Refusal]


def _row(phases: frozenset[Phase] | Phase, pattern: str, refusal: Refusal) -> Rule:
    phases = frozenset({phases}) if isinstance(phases, Phase) else phases
    return phases, re.compile(pattern, re.IGNORECASE), refusal


REPLY_RULES = (
    # The transport's own findings, code 0: certificate, STARTTLS or AUTH missing, no common TLS version.
    _row(frozenset({Phase.TLS, Phase.AUTH}), r"0 ", AuthFailed()),
    _row(Phase.TLS, r"5", AuthFailed()),
    # SES limits connections in its greeting; everywhere else "too many" is a rate as well.
    _row(_ANY, r"421 .*(too many|concurrent|\brate\b)", Throttled()),
    _row(_ANY, r"4\d\d .*daily message quota exceeded", Throttled(retry_after=MAX_RETRY_AFTER)),
    _row(_ANY, r"4\d\d .*throttling failure", Throttled()),
    # Before the first command of a mail a server judges its client: its address, and its EHLO name.
    _row(Phase.GREETING, r"554 |5\d\d 5\.7\.", _REPUTATION),
    _row(Phase.EHLO, r"(501|504|550) |5\d\d 5\.(5\.2|7\.\d+) ", _REPUTATION),
    _row(_EARLY, r"", ProviderFault()),
    # SendGrid answers a used-up plan with 451 in the AUTH dialogue: an account matter, not a fault.
    _row(Phase.AUTH, r"4\d\d .*(credit|quota)", AuthFailed()),
    _row(Phase.AUTH, r"432 |4\d\d 4\.7\.12 ", AuthFailed()),
    _row(Phase.AUTH, r"4", ProviderFault()),
    _row(Phase.AUTH, r"5", AuthFailed()),
    # About the mailbox, by enhanced codes that mean nothing else.
    _row(Phase.RCPT, r"5\d\d 5\.1\.(1|6) ", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    _row(Phase.RCPT, r"5\d\d 5\.1\.(2|10) ", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    _row(Phase.RCPT, r"5\d\d 5\.1\.3 ", RecipientRejected(Reason.INVALID_ADDRESS)),
    _row(Phase.RCPT, r"5\d\d 5\.2\.1 ", RecipientRejected(Reason.DISABLED)),
    _row(Phase.RCPT, rf"5\d\d 5\.2\.2 |{_FULL}", Declined(Reason.FULL)),
    # About the sender, by enhanced codes, whatever else the words mention.
    _row(_MESSAGE, r"5\d\d (5\.1\.[78]|5\.7\.(2[0-9]|60)) ", _SENDER),
    # A mail that was blocked for its content says nothing about the client.
    _row(_CONTENT, _SPAM, Declined(Reason.SPAM)),
    # About this client and its account. Postfix says at RCPT what it thinks of an EHLO name.
    _row(_MESSAGE, _SENDER_CHECK, _SENDER),
    _row(_MESSAGE, r"504 |5\d\d 5\.5\.2 ", _REPUTATION),
    _row(_MESSAGE, _BLOCKED, _REPUTATION),
    _row(_MESSAGE, _OWN_ACCOUNT + _CLOSED, _REPUTATION),
    _row(_CONTENT | {Phase.MAIL}, r"5\d\d .*\baccount\b" + _CLOSED, _REPUTATION),
    _row(_CONTENT, r"5\d\d .*access denied", AuthFailed()),
    # About the size and what the server can do.
    _row(_MESSAGE, rf"552 |5\d\d (5\.3\.4|5\.2\.3|5\.5\.3) |{_SIZE}", _TOO_LARGE),
    _row(_MESSAGE, r"5\d\d 5\.6\.(3|6|7) |555 |5\d\d 5\.5\.4 ", _UNSUPPORTED),
    _row(_MESSAGE, r"5\d\d 5\.6\.\d+ ", Declined(Reason.INVALID_CONTENT)),
    _row(_MESSAGE, _LIMIT, _QUOTA),
    # About the sender, which the message names; where the account names it, the scope becomes the account's.
    _row(_MESSAGE, _FROM, _SENDER),
    _row(_MESSAGE, _RELAY, AuthFailed()),
    _row(Phase.MAIL, r"554 |5\d\d 5\.7\.", _POLICY),
    _row(Phase.MAIL, r"5|403 ", _SENDER),
    _row(Phase.RCPT, r"5\d\d 5\.7\.\d+ .*(recipient|mailbox|user)", Declined(Reason.POLICY)),
    _row(Phase.RCPT, r"554 |5\d\d 5\.7\.", _POLICY),
    _row(Phase.RCPT, _CLIENT_REFUSED, _REPUTATION),
    _row(Phase.RCPT, r"5\d\d .*\bpolic(y|ies)\b", Declined(Reason.POLICY)),
    _row(Phase.RCPT, _CLOSED_BOX, RecipientRejected(Reason.DISABLED)),
    _row(Phase.RCPT, _UNKNOWN_BOX, RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    _row(Phase.RCPT, r"5", Declined(Reason.OTHER)),
    _row(_CONTENT, r"554 |5\d\d 5\.7\.", Declined(Reason.POLICY)),
    _row(_CONTENT, r"5", Declined(Reason.INVALID_CONTENT)),
    # Later: one mailbox that is busy or greylists its senders, also after the data, one envelope with too many
    # recipients, or the server.
    _row(Phase.RCPT, r"450 |451 4\.7\.1 |452 4\.5\.3 ", _GREYLISTED),
    _row(_CONTENT | {Phase.RCPT}, r"4\d\d (4\.2\.|.*\bgr[ea]y.?list|- .*mailbox.{0,60}(\bfull\b|quota))", _GREYLISTED),
    _row(_ANY, r"4\d\d 4\.(3|4)\.", ProviderFault()),
    _row(_ANY, r"4\d\d 4\.(2|7)\.|4\d\d 4\.5\.3 ", Throttled()),
    _row(_ANY, r"450 |452 ", Throttled()),
    _row(_ANY, r"4", ProviderFault()),
)


def classify(response: SmtpReply | DividedReply) -> Outcome | Divided:
    """Accepted only by a 2xx to the final dot; every 4xx and 5xx anywhere is a definite "not taken"."""
    if isinstance(response, SmtpReply):
        return _classify(response)
    accepted = any(isinstance(_classify(part.reply), Accepted) for part in response.parts)
    parts: list[Part] = []
    for part in response.parts:
        outcome = _classify(part.reply)
        if accepted and part.reply.phase is Phase.RCPT:
            outcome = _about_recipient(outcome)
        # A rejected recipient has its own delivery; recipients that are tried again stay in one envelope.
        alone = isinstance(outcome, RecipientRejected)
        groups = [(one,) for one in part.recipients] if alone else [part.recipients]
        parts += [Part(group, outcome) for group in groups]
    return _join(parts)


def _about_recipient(outcome: Outcome) -> Outcome:
    """The outcome of a refused RCPT in a transaction that the server accepted for others: not the account's."""
    match outcome:
        case Declined(reason, detail):
            return Declined(reason, detail, Scope.MESSAGE)
        case Throttled(detail, retry_after):
            return Throttled(detail, retry_after, Scope.RECIPIENT)
        case AuthFailed(detail):
            return Declined(Reason.POLICY, detail, Scope.MESSAGE)
        case ProviderFault(detail):
            return Throttled(detail, None, Scope.RECIPIENT)
        case _:
            return outcome


def _join(parts: Sequence[Part]) -> Outcome | Divided:
    """One part for all that were accepted, first, and one for each other kind of outcome that leads to another try."""
    accepted = [part for part in parts if isinstance(part.outcome, Accepted)]
    joined: dict[object, Part] = {}
    if accepted:
        ids = dict.fromkeys(part.outcome.provider_message_id for part in accepted if isinstance(part.outcome, Accepted))
        joined[Accepted] = Part(_recipients_of(accepted), Accepted(" ".join(filter(None, ids))[:200]))
    for part in parts:
        outcome = part.outcome
        if isinstance(outcome, RecipientRejected):
            joined[part.recipients] = part
        elif not isinstance(outcome, Accepted):
            kind = (type(outcome), outcome.scope if isinstance(outcome, Declined | Throttled) else None)
            same = joined.get(kind)
            joined[kind] = part if same is None else Part(same.recipients + part.recipients, same.outcome)
    found = tuple(joined.values())
    return found[0].outcome if len(found) == 1 else Divided(found)


def _recipients_of(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(recipient for part in parts for recipient in part.recipients)


def _classify(reply: SmtpReply) -> Outcome:
    detail = _detail(reply)
    if 200 <= reply.code < 300 and reply.phase is Phase.END_OF_DATA:
        return Accepted(_queue_id(reply.text))
    line = f"{reply.code} {_enhanced(reply)} {' '.join(reply.text[:_MAX_TEXT].split())}"
    for phases, pattern, refusal in REPLY_RULES:
        if reply.phase in phases and pattern.match(line):
            return fill(refusal, detail)
    # A reply outside the protocol: before the final dot nothing was sent, after it the message may have been taken.
    return Unknown(detail) if reply.phase is Phase.END_OF_DATA else ProviderFault(detail)


def _names_sender(credentials: SmtpCredentials, refusal: Declined) -> bool:
    """Whether the account names the sender of the envelope; after the data a server judges the header's."""
    return credentials.envelope_from is not None and not refusal.detail.startswith(f"{Phase.END_OF_DATA}:")


def _enhanced(reply: SmtpReply) -> str:
    """The first enhanced code, wherever it stands; "-" when there is none whose class agrees with the basic code."""
    found = (code[0] for code in ENHANCED_CODE.finditer(reply.text[:_MAX_TEXT]))
    return next((code for code in found if code[0] == str(reply.code)[0]), "-")


def _detail(reply: SmtpReply) -> str:
    return f"{reply.phase}: {reply.code or ''} {reply.text}".replace(":  ", ": ")


def _queue_id(text: str) -> str:
    """The last word of the reply: Postfix, SendGrid and SES end with their id, though no standard says so."""
    words = text.rsplit("\n", 1)[-1].split()
    return words[-1].strip("<>()[]")[:200] if words else ""


SMTP = Package(
    name="provider-smtp",
    title="SMTP",
    channels=(Channel.EMAIL,),
    credentials=SmtpCredentials,
    transport=TransportKind.SMTP,
    build=build,
    classify=classify,
    docs_url="https://www.rfc-editor.org/rfc/rfc6409",
    max_recipients=1000,  # in transactions of ``maxRecipients``
    supports_attachments=True,
    supports_html=True,
    separate_envelope=True,
    names_sender=_names_sender,
    concurrency=16,  # each call holds a connection; servers commonly allow 10 to 50 from one client
)
