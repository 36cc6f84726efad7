"""What contradicts what, and who decides: comparators, rungs, and the procedure they are used in."""
