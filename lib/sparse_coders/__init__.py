"""Sparse coders: autoencoders and transcoders that write activations as sparse sums of latent directions."""
