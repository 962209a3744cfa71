"""Real servers on loopback for a laptop: fetched by package name, started, checked and stopped."""
