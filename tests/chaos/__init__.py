"""Chaos: a real coordinator, real agents and a real client under load, while one process after another is killed.

One seed is one plan of faults. `python -m tests.chaos --cycles 300 --seed 1` follows it and then judges the ledger's
file with the simulator's checkers.
"""
