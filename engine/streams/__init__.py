"""The streams that lead to the ledger: the only room that speaks Redis (or Valkey)."""
