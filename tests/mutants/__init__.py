"""Planted bugs: small changes of the real engine, each of which a checker has to find.

A simulator that finds nothing proves nothing; it is judged by what it catches. `table` has the changes, `run` applies
one at a time to a copy of the package and looks for it there. `make mutants` runs the whole table.
"""
