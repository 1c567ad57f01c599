"""Where entries live: names, and the stages' only way to the disk."""
