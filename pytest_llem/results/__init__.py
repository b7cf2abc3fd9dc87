"""Results: what was measured is kept first, then summed up, then judged."""
