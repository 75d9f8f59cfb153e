"""Fake providers that follow a scenario, well or badly behaved."""

from sluice_simulator.scenario import Behaviour, EndpointScenario, Forgery, Latency, Receipts, Rule, Scenario, Webhook
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
