"""The Kubernetes operator: makes K2Pipelines run."""
