"""What is told of it all: the log, and the health of each queue."""
