"""The custom resource definition, made from the spec model."""
