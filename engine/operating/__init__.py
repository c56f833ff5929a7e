"""What operators see and do: one id's life, what is wrong, what happened, dead letters, metrics."""
