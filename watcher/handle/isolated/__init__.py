"""A python handler in a process of its own: the parent, the protocol, the worker."""
