"""Agents that do real work with the public API of `a2a`, each in a file of its own."""
