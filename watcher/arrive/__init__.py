"""Stage 1, NOTICE: something may be ready."""
