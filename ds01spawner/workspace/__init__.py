"""Permanent storage: projects, ownership, names and disk."""
