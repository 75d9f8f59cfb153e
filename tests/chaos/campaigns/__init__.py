"""Campaigns: one kind of trouble each, in quantity. ``python -m tests.chaos campaigns [NAME ...] [--size N]``."""
