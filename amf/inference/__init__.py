"""One stack in, one JSON out. In the image."""
