"""What runs inside the hub's own process."""
