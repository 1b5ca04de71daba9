"""Sums over the codes of a batch: weighted rows of a table per sample or per latent, and one dot product per code.

In float32 and float64; tested on CPU, and the same operations on CUDA (never run so far).
"""
from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CACHED = 1_500_000
"""Bytes of a table that a CPU reads at random without cutting it."""


class Bags:
    """Where the codes of a batch lie: latents, the bags they are summed in, and the same codes ordered by latent.

    A bag is a sample; in a table of S coders a bag is one sample at one coder, S bags per sample, adjacent. Numbers are
    int32, which kernels read faster.
    """

    def __init__(self, indices: Tensor, offsets: Tensor):
        self.indices = indices.int()  # [nnz]
        self.edges = F.pad(offsets.int(), (0, 1), value=len(indices))  # bag n is the codes edges[n] to edges[n + 1]

    @cached_property
    def bag(self) -> Tensor:
        """Bag of each code, [nnz]."""
        numbers = torch.arange(len(self.edges) - 1, dtype=torch.int32, device=self.indices.device)
        return numbers.repeat_interleave(self.edges.diff(), output_size=len(self.indices))

    @cached_property
    def order(self) -> Tensor:
        """Permutation that sorts the codes by latent, int64 [nnz]."""
        if self.indices.device.type == "cpu" and len(self.indices) and int(self.indices.max()) < 1 << 16:
            numbers = self.indices.numpy().astype(np.uint16)  # NumPy sorts 16 bits by digits, up to 9 times as fast
            return torch.from_numpy(np.argsort(numbers, kind="stable"))
        return self.indices.argsort(stable=True)

    @cached_property
    def ordered_bag(self) -> Tensor:
        """Bag of each code, in that order, [nnz]."""
        return self.bag.index_select(0, self.order)

    def by_latent(self, n_latents: int) -> Tensor:
        """Where each latent's codes lie in that order, as `edges`, [n_latents + 1]."""
        return F.pad(self.indices.bincount(minlength=n_latents).cumsum(0), (1, 0)).int()


def sum_rows(table: Tensor, indices: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of a table's rows, out_n = sum_{j in bag n} weights_j table[indices_j]; 0 for an empty bag.

    Args:
        table: [rows, d]; indices and weights: [nnz]; edges: of the bags, [n_bags + 1].
    Returns:
        [n_bags, d].
    """
    parts = table.split(_width(table, len(indices)), 1)
    sums = [F.embedding_bag(indices, part.contiguous(), edges, per_sample_weights=weights.contiguous(), mode="sum",
                            include_last_offset=True) for part in parts]
    return torch.cat(sums, 1) if len(sums) > 1 else sums[0]


def _width(table: Tensor, reads: int) -> int:
    """Columns taken at a time: few where rows are read often from a table that a core's own cache does not hold."""
    is_cut = table.device.type == "cpu" and table.nbytes > CACHED and reads >= 16 * len(table)
    return 64 if is_cut else table.shape[1]


def sum_rows_by_latent(rows: Tensor, weights: Tensor, bags: Bags, n_latents: int, per_row: int = 1) -> Tensor:
    """Gradient of a sparse layer's weights, out_i = sum over the codes j of latent i of weights_j rows[bag of j].

    Args:
        rows: [n_bags / per_row, d]; weights: [nnz]; per_row: adjacent bags that share a row.
    Returns:
        [n_latents, d].
    """
    bag = bags.ordered_bag if per_row == 1 else bags.ordered_bag // per_row
    return sum_rows(rows, bag, bags.by_latent(n_latents), weights.index_select(0, bags.order))


def dots(rows: Tensor, table: Tensor, bags: Bags) -> Tensor:
    """rows[bag of j] · table[latent of j] for every code j, [nnz]; rows [n_bags, d], table [n_latents, d]."""
    shape, zeros = (len(rows), len(table)), rows.new_zeros(len(bags.indices))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse")  # torch calls its sparse matrices a beta, and leaves them unchecked
        places = torch.sparse_csr_tensor(bags.edges, bags.indices, zeros, shape, check_invariants=False)
    return torch.sparse.sampled_addmm(places, rows, table.T, beta=0).values()
