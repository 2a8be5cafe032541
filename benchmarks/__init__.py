"""One module per benchmark: its questions, its measures, its score (see ladder/eval/benchmark.py)."""
