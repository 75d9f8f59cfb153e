"""Floor K: the least that a service over Kafka can do."""
