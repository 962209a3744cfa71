"""What every K2 service shares: the spec, the schemas, the codec and the names. It imports no service."""
