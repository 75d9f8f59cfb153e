"""Settings of transports whose peers listen on this machine."""

from __future__ import annotations

from sluice.transports.outgoing import OutgoingAddresses, parse_networks
from sluice.transports.settings import TransportSettings

LOOPBACK_NETWORKS = "127.0.0.0/8,::1/128"
LOCAL = TransportSettings(outgoing_allow=LOOPBACK_NETWORKS)
LOOPBACK = OutgoingAddresses(parse_networks(LOOPBACK_NETWORKS))
