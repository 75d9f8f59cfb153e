"""Starts and supervises PostgreSQL, Redis, Kafka and the roles as child processes of one machine.

settings -> plan (find or fetch every program, choose ports) -> supervisor (start, watch, restart, stop);
`control` is the client of a running supervisor; `local_stack` combines all of it for tests and tools.
"""
