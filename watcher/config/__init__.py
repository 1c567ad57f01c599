"""The configuration: the table of options, and the file that is read by it."""
