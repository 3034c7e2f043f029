"""Killing what runs on the native cluster, the way a machine would: without notice."""
