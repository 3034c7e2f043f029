"""`python -m e2e.demo`: from nothing to a trained model that generates, with every step shown."""
