"""What is done with trained models: scores, comparisons, tuning, benchmarks."""
