"""From a pipeline to the Kubernetes objects that run it. Pure."""
