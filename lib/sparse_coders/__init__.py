"""Sparse coders: autoencoders and transcoders that write activations as sparse sums of latent directions.

    from lib.sparse_coders import SparseCoder, fit

    coder = SparseCoder(d_in=64, n_latents=512, rule="topk", k=8)
    result = fit(coder, activations)            # NumPy or torch, [n_samples, 64]
    latents, recons = coder.encode(x), coder(x)
    coder.save("coder.safetensors")             # load("coder.safetensors") gives it back

    coder        the class: a rule, its parameters, encode and decode
    rules        every encoder rule, one class each; `rule` is what they share, `functions` what they are made of
    losses       the parts of a loss, and its way through large batches
    trainer      `fit` and its options, over batches of `inputs`, by one `trainee` per coder or one `table` of many
    kernels      the sparse algebra, with selection and sparse_ops; dense_kernels where most latents are on
    multi_input  a context beside the input
    report       everything a coder is judged by where the features are known
    files        a saved coder
    interchange  coders of other libraries
"""
from lib.sparse_coders.coder import SparseCoder, load
from lib.sparse_coders.kernels import Codes
from lib.sparse_coders.trainer import FitOptions, FitResult, fit

__all__ = ["Codes", "FitOptions", "FitResult", "SparseCoder", "fit", "load"]
