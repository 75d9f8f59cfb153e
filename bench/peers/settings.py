"""Where the peers find things: their starter says it in the environment."""

from __future__ import annotations

import os

POSTGRES = os.environ.get("BENCH_POSTGRES", "")
REDIS = os.environ.get("BENCH_REDIS", "")
PROVIDERS = tuple(os.environ.get("BENCH_PROVIDERS", "").split(","))
HEADERS = {"Authorization": "Bearer re_peer", "Content-Type": "application/json"}

SCHEMA = """
    CREATE TABLE IF NOT EXISTS messages (
        id uuid PRIMARY KEY, body text NOT NULL, status text NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
    )
"""
