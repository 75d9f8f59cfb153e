"""The outbox: what the sandbox has captured."""
