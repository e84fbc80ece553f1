"""Training of one network: recipe, weights, adapters, losses, sampling, and the loop."""
