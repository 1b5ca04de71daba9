"""Toy models and small networks.

    toy_superposition  x' = ReLU(Wᵀ W x + b) and its kinds as an ensemble, with hand-written gradients
    toy_training       grids of them from several restarts, judged on held-out samples
    toy_exact          tiny ones on their exact expected loss: phase diagram, minima followed, dynamics
    published_toy      the published training of the same model, to the bit where floats allow
    motifs             privileged bases, and circuits that superpose
    robustness         how easily superposition is attacked
    image_models       classifiers by name: vision transformers and a residual network (timm)
"""
