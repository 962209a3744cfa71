"""Exchange feeds and files into Kafka."""
