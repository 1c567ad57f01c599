"""Stage 3, WORK: run the user's code, learn the result."""
