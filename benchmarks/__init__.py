"""The measured side: what a coordinator costs next to a bare relay on the same machine in the same run.

`python -m benchmarks` is the way in. What is measured uses the public API and runs as real processes on loopback, but
for what looks inside one process (`engine`). Linux only, because processor time is read from `/proc`.
"""
