"""What a bundle is made of: networks, preprocessing, the bundle itself. In the image."""
