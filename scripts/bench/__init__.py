"""Measure how fast watcher is, compared with a minimal C program and with its peers."""
