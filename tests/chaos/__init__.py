"""The proof: load, faults, and a check over ledgers that no part of the system under test writes.

``python -m tests.chaos chaos|sweep|campaigns``; see docs/reliability.md for what is promised and what was measured.
"""
