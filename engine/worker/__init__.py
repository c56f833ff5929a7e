"""From an entry to its answer: the only room that waits for both servers."""
