"""Installed programs write into watched folders: see `__main__`."""
