"""Stage 1, NOTICE: learn of files that may be ready, by events, polling and scans."""
