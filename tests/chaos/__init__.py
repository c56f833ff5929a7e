"""Workers, servers, links, locks, clocks and producers that go wrong at random, under load."""
