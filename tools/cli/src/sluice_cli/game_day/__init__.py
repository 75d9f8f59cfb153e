"""game-day: faults of providers, one after the other, on the running installation and the simulator."""
