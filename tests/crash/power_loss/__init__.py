"""Power loss: every state a disk may legally be in after it, and what recovery makes of each."""
