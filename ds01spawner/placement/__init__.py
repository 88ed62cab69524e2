"""Which device a session gets, or why none. Pure: plain data in, decision and reason out."""
