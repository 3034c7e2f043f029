"""`kubectl lmforge …`: what kubectl itself can't do with LMForge's objects."""
