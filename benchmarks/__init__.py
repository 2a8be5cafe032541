"""Benchmarks, one module each: its questions, measures and score (see ladder/eval/benchmark.py)."""
