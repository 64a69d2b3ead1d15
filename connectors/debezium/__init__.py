"""Capture: the Debezium connector's definition and Kafka Connect's REST API."""
