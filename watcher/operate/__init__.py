"""What an operator does to entries: hold, release, requeue, delete; and to which of them."""
