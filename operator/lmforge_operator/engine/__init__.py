"""The level-based engine: one queue, one loop, and what every kind needs besides."""
