"""Sparse coders: autoencoders and transcoders that write activations as sparse sums of latent directions.

    from lib.sparse_coders import SparseCoder, fit

    coder = SparseCoder(d_in=64, n_latents=512, rule="topk", k=8)
    result = fit(coder, activations)            # NumPy or torch, [n_samples, 64]
    latents, recons = coder.encode(x), coder(x)
    coder.save("coder.safetensors")             # load("coder.safetensors") gives it back

`coder` the class · `options` what each rule accepts · `rules` the rules as functions · `losses` what is minimised ·
`stochastic`, `multi_input` two variants · `kernels` (with `selection`, `sparse_ops`, `dense_kernels`, `chunks`) the
algebra · `trainer` `fit`, over `batches` of data, by one `trainee` per coder or one `table` of many, with `initial`
values and `resampling` · `files` a saved coder · `interchange` coders of other libraries.
"""
from lib.sparse_coders.coder import SparseCoder, load
from lib.sparse_coders.kernels import Codes
from lib.sparse_coders.trainer import FitResult, fit

__all__ = ["Codes", "FitResult", "SparseCoder", "fit", "load"]
