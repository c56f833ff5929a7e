"""The commands: what a person or a script says to the engine, a file per command."""
