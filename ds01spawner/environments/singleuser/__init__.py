"""The session layer that builds add to any base: the files that go into the image, and their revision."""
