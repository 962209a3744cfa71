"""Kafka into Iceberg, exactly once."""
