"""Load, faults, and a check over ledgers that no part of the system under test writes.

``python -m tests.chaos chaos|sweep|campaigns``; see docs/reliability.md for the guarantee and the results.
"""
