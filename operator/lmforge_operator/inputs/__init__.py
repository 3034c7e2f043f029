"""What objects read: other objects' artifacts, claims, and where pods find them."""
