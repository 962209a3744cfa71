"""Files as a source: each is read once, row by row in order, into the same topics as an exchange's messages."""
