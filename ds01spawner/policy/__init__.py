"""What the policy file says, and what a person gets from it. Pure: no Docker, no clock, no JupyterHub."""
