"""Mailgun's own library sends through the simulator's dialect, reads its errors and verifies its webhooks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mailgun.client import Client
