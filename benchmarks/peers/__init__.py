"""Other systems that carry a task to a worker and its answer back, compared with a delegation in the same run.

Each has a module, which runs in the peer's own virtual environment, and pinned requirements in a file of the same name.
Such a module imports the peer's packages only when a role runs: the runner has none of them.
"""
