"""What training does to patches: named sets of augmentations, and MixUp."""
