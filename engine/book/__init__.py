"""What a worker remembers, in columns; it never waits."""
