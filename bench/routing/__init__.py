"""Routing policies against simulated providers: `make simulate-routing`. No wall clock, no I/O, seeded."""
