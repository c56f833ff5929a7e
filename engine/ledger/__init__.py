"""The nouns of a ledger and its law: pure, without numpy, I/O or clock."""
