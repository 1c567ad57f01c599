"""The page: a process of its own that shows what the queues of a daemon do."""
