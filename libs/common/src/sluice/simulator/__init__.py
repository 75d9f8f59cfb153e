"""Faithful far ends of the providers, scripted to behave well or badly."""

from sluice.simulator.script import Do, DoorScript, Forgery, Receipts, Rule, Script, Slow, Webhook
from sluice.simulator.simulator import Simulator
from sluice.simulator.smtp_server import SmtpSettings

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
