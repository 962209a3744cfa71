"""A real Kubernetes cluster of one node, without a container engine: tools, control plane, node, images, servers."""
