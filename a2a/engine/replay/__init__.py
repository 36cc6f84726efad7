"""Decisions made again: `run` makes them, on what `past` knows; each other module has the rules for some records."""
