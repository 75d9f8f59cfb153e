"""Campaigns: one kind of fault each, in quantity. ``python -m tests.chaos campaigns [NAME ...] [--size N]``."""
