"""Faithful far ends of the providers, scripted to behave well or badly."""

from sluice_simulator.scenario import Do, DoorScript, Forgery, Receipts, Rule, Script, Slow, Webhook
from sluice_simulator.simulator import Simulator
from sluice_simulator.smtp_server import SmtpSettings

__all__ = [
    "Do",
    "DoorScript",
    "Forgery",
    "Receipts",
    "Rule",
    "Script",
    "Simulator",
    "Slow",
    "SmtpSettings",
    "Webhook",
]
