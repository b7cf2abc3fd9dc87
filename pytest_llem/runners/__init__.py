"""Where a worker runs: the choice, the transport, and the conversation over it."""
