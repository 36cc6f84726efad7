"""Fuzzing: whatever comes from outside ends in an answer or in an error that is documented, at once and in little room.

A target turns bytes into something a stranger may send or leave behind, and has our code take it. Hypothesis draws the
bytes with every run of the tests; `make fuzz` has atheris draw them, guided by what of the code they reach. What was
found has a test beside the code that was mended: an input says nothing once a target makes other choices.
"""
