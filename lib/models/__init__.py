"""Toy models, small networks, language models.

    toy_superposition  x' = ReLU(Wᵀ W x + b) and its kinds as an ensemble, with hand-written gradients
    toy_training       grids of them from several restarts, judged on held-out samples
    toy_exact          tiny ones on their exact expected loss: phase diagram, minima followed, dynamics
    published_sae      the autoencoder of the published activation comparison
    published_toy      the published training of the same model, to the bit where floats allow
    motifs             privileged bases, and circuits that superpose
    robustness         how easily superposition is attacked
    causal_lm          causal language models behind one adapter
    lm_files           Llama from GGUF, GPT-2 from a folder
    image_models       classifiers by name: vision transformers and a residual network (timm)
"""
