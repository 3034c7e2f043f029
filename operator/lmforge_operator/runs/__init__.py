"""What all run kinds share: attempts, their launch as Indexed Jobs, failure rules, progress and status."""
