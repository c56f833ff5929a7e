"""The store: the only place that runs SQL. Named statements are in `queries`."""
