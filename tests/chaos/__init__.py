"""Chaos: a real coordinator, real agents and a real client under load, while one of them after the other is killed.

One seed is one plan of faults. `python -m tests.chaos --cycles 300 --seed 1` follows it and judges the ledger's file
afterwards, with the simulator's checkers.
"""
