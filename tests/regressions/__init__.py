"""Faults that runs of the proof have found, each held by a test; and the small forms of the runs."""
