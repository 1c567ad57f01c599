"""The long-running daemon: the loop, the queues at work, and what waits in them."""
