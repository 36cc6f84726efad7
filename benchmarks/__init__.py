"""The benchmarks: what a coordinator costs compared with a bare relay on the same machine in the same run.

`python -m benchmarks` runs them. The measured code uses the public API and runs as real processes on loopback, except
where a benchmark looks inside one process (`engine`). Linux only, because processor time is read from `/proc`.
"""
