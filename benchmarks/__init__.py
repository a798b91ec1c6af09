"""What training costs, against the reference's recipe and against the matrix products alone.

`python -m benchmarks` measures everything in one run; see README.md for the method.
"""
