"""What a pipeline of a given rate needs and costs; see `k2_cli.plan`."""
