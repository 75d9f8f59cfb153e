"""The benchmark: open loop, baselines and peers in the same run, ratios. See `python -m bench --help`."""
