"""Other systems that carry a task to a worker and its answer back, measured beside a delegation in the same run.

Each has a module, which runs in a virtual environment of the peer's own, and its requirements, pinned, in a file of the
same name. What such a module needs from the peer it imports when a role runs: the runner has none of it.
"""
