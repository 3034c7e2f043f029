"""Everything that talks to the API server, and nothing else does."""
