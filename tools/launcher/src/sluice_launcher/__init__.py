"""Starts and supervises PostgreSQL, Redis, Kafka and the roles as child processes of one machine.

settings -> plan (find or fetch every program, choose ports) -> supervisor (start, watch, restart, stop);
`control` talks to a running supervisor and `engine` is all of it for tests and tools.
"""
