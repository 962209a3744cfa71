"""One pure parser an exchange."""
