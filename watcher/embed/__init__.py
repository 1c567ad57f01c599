"""A queue in another program: the iterators of `watcher.entries` and `watcher.entries_async`."""
