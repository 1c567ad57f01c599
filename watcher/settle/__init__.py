"""Stage 4, FINISH: done, dead, orphaned: one move each."""
