"""The command `k2`, the local stack, and the supervisor of a laptop."""
