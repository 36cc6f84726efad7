"""Makes decisions again: `run` makes them, from the state in `past`; the other modules have rules for records."""
