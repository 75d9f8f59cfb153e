"""backtest: recorded traffic again, under other routing policies."""
