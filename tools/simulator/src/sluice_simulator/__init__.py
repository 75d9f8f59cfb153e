"""Fake providers with the providers' own protocols, behaving well or badly as a scenario says."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice_simulator.scenario import (
        Behaviour,
        EndpointScenario,
        Forgery,
        Latency,
        Receipts,
        Rule,
        Scenario,
        Webhook,
    )
    from sluice_simulator.simulator import Simulator
    from sluice_simulator.smtp_server import SmtpSettings

__all__ = [
    "Behaviour",
    "EndpointScenario",
    "Forgery",
    "Latency",
    "Receipts",
    "Rule",
    "Scenario",
    "Simulator",
    "SmtpSettings",
    "Webhook",
]

_MODULES = {"Simulator": "simulator", "SmtpSettings": "smtp_server"}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line loads this package for every command."""
    if name not in __all__:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'scenario')}"), name)
