"""Files of the repository that are made from the chart, and how to keep them in step. See `hack/render`."""
