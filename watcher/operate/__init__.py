"""What an operator does to entries: hold, release, requeue, delete; which ones, and who did."""
