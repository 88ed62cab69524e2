"""The Docker adapter: the only package that talks to a Docker engine about sessions."""
