"""Power loss: every state that a disk may have after it, and the recovery from each."""
