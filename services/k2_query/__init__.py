"""The query API over Iceberg and the tail of Kafka."""
