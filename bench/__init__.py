"""The measurement: open loop, floors and peers in the same run, ratios. `python -m bench --help` tells the rest."""
