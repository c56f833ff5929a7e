"""A transfer engine: moves money between accounts, correctly, at the speed of Postgres."""
