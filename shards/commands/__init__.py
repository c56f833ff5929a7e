"""The program `shards`: who works on what, for operators."""
