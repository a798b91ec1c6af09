"""How fast the study is: `python -m benchmarks` from the repository's root; README.md has it."""
