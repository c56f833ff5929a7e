"""Between the bytes of a stream entry and numpy columns: no I/O, no asyncio, no clock."""
