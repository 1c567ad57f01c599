"""Stage 2, TAKE: one holder an entry."""
