"""The login of the environment's Kafka, for clients that are measured without Sluice's code."""

import os
from typing import Any


def login() -> dict[str, Any]:
    """aiokafka's options; none where Kafka asks for no login."""
    if os.environ.get("SLUICE_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT") == "PLAINTEXT":
        return {}
    return {
        "security_protocol": os.environ["SLUICE_KAFKA_SECURITY_PROTOCOL"],
        "sasl_mechanism": os.environ["SLUICE_KAFKA_SASL_MECHANISM"],
        "sasl_plain_username": os.environ["SLUICE_KAFKA_USERNAME"],
        "sasl_plain_password": os.environ["SLUICE_KAFKA_PASSWORD"],
    }
