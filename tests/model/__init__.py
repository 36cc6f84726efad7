"""A small explicit-state model of the task rules: every state that can be reached, and what must hold in each.

The simulator runs the real machines and sees some of what can happen; the model knows only the rules of a task and
sees all of it, within small bounds. Both go by the transition table of `a2a.protocol.states`. `python -m tests.model`
walks all profiles and then shows that each planted variant of the rules is caught.
"""
