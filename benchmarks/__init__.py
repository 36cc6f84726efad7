"""The measured side: what a coordinator costs next to a bare relay on the same machine in the same run.

`python -m benchmarks` is the way in. Everything here uses the public API and starts real processes on loopback; Linux
only, because processor time is read from `/proc`.
"""
