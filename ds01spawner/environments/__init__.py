"""Environments: catalogue, rights to an image, preflight, the session layer; ``builder`` makes images."""
