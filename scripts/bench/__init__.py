"""How fast watcher is beside the least that the kernel asks for, and beside its peers."""
