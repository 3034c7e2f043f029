"""Benches: every speed that README names, measured by a command that anyone can run."""
