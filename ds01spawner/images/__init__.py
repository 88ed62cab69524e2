"""Environments: catalogue, preflight, recipes, builds and snapshots."""
