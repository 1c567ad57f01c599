"""Daemons with many workers, killed and reloaded at random: see `__main__`."""
