"""The maintenance of tables through Trino: files are put together, snapshots expire, litter is removed."""
