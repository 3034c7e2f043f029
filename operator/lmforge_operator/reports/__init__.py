"""Progress: what pods say about themselves, who they are, and the newest word of each."""
