"""The normalised cause of a refusal or of a negative receipt, the same word for every provider.

Suppression, analytics and the dashboard read this word; the provider's own text is kept beside it.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One cause. The first group is about the recipient, the second about the message, the third about the account."""

    INVALID_ADDRESS = "invalid_address"  # not an address or number of this channel
    UNKNOWN_RECIPIENT = "unknown_recipient"  # well-formed, and no such mailbox, subscriber, chat or device exists
    DISABLED = "disabled"  # the recipient's mailbox or account exists and is closed
    UNREACHABLE = "unreachable"  # the recipient exists and cannot be reached now: switched off, no route
    FULL = "full"  # the recipient's mailbox or queue is full
    BLOCKED = "blocked"  # the recipient or the carrier refuses messages of this sender
    UNSUBSCRIBED = "unsubscribed"  # the recipient opted out
    COMPLAINT = "complaint"  # the recipient reported the message as spam
    SUPPRESSED = "suppressed"  # the project suppresses the address: no provider was called

    INVALID_CONTENT = "invalid_content"  # malformed or empty content, or a field that the provider does not take
    TOO_LARGE = "too_large"  # too many bytes, characters, segments or recipients
    UNSUPPORTED = "unsupported"  # this provider or account lacks a capability that the message needs
    SENDER = "sender"  # the sender is not valid, not verified or not allowed here
    SPAM = "spam"  # the content was judged to be spam
    POLICY = "policy"  # refused by a policy of the provider, the carrier or the law

    CREDENTIALS = "credentials"  # the account's credentials or its configuration are refused
    QUOTA = "quota"  # a contingent, a rate or a balance is used up
    REPUTATION = "reputation"  # the account's or the server's standing: blocklist, HELO, trial account
    NETWORK = "network"  # a fault of the provider or the carrier between acceptance and delivery
    EXPIRED = "expired"  # not delivered within the time that the provider or the carrier allows
    OTHER = "other"  # a documented cause without a word of its own, or one that the provider does not document
