"""What all pods of ours have in common: how they are seen, what holds them up, what they may do."""
