"""From a recipe, a Dockerfile or a commit to an image: read, bounded, pinned, built and checked."""
