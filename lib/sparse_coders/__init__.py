"""Sparse coders: autoencoders and transcoders that write activations as sparse sums of latent directions.

    from lib.sparse_coders import SparseCoder, fit

    coder = SparseCoder(d_in=64, n_latents=512, rule="topk", k=8)
    result = fit(coder, activations)            # NumPy or torch, [n_samples, 64]
    latents, recons = coder.encode(x), coder(x)
    coder.save("coder.safetensors")             # load("coder.safetensors") gives it back

    coder        the class: a rule, its parameters, encode and decode
    options      what each rule accepts
    rules        encoder rules as functions of pre-activations
    losses       what each rule minimises
    stochastic   latents through a stochastic mask; multi_input: a context beside the input
    trainer      `fit`, over `batches` of data, by one `trainee` per coder or one `table` of many
    initial      values before training; resampling: of dead latents while training
    kernels      the sparse algebra, with selection, sparse_ops, dense_kernels and chunks
    report       everything a coder is judged by where the features are known
    files        a saved coder; inputs: what is taken as samples
    interchange  coders of other libraries, from foreign_files
"""
from lib.sparse_coders.coder import SparseCoder, load
from lib.sparse_coders.kernels import Codes
from lib.sparse_coders.trainer import FitResult, fit

__all__ = ["Codes", "FitResult", "SparseCoder", "fit", "load"]
