"""Recoveries by a person: a commit state rebuilt, a loss accepted, a table taken back; one commit each."""
