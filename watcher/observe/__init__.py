"""What the operator sees of the daemon: the log, and the health of each queue."""
