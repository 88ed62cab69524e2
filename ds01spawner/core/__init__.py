"""What the rest of the product is built on; nothing here imports any other part of it."""
