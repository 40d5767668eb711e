"""How soon a stock actor serves again after `kill -9`, and at whose cost: `python -m benchmarks.recovery`."""
