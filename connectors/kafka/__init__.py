"""Kafka and the schema registry: the topic catalogue, producing, consuming, decoding."""
