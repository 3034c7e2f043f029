"""FineTune: the story of the kind is in reconcile.py."""
