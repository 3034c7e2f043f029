"""The API of LMForge: pydantic models of every kind, and the contract between operator and workloads.

Imports neither kopf nor torch, so that the operator, the pods, the CLI and a user's own script can all read it.
"""
