"""`engine verify`: whether the ledger keeps its promises, asked of live data."""
