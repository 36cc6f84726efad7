"""The seeded simulator: the real machines under one clock, one source of chance and a menu of faults.

One seed is one world. `python -m tests.simulation --seeds 1000` runs many, `--seed 7 --trace` tells the story of one.
"""
