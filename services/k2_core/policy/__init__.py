"""One decision from lag: how many sinks, and how much of their work is deferred. Pure; `decision.step` is the entry."""
