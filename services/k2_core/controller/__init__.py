"""Looks at a pipeline's lag, has `k2_core.policy` decide, and tells services and whoever runs them."""
