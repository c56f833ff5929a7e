"""From requests to what becomes of them: pure, in columns, equal to the rules."""
