"""Sums over the codes of a batch: weighted rows of a table per sample or per latent, and one dot product per code.

In float32 and float64; tested on CPU, and the same operations on CUDA (never run so far).
"""
from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


class Bags:
    """Where the codes of a batch lie: latents, the bags they are summed in, and the same codes ordered by latent.

    A bag is a sample; in a table of S coders a bag is one sample at one coder, S bags per sample, adjacent.
    """

    def __init__(self, indices: Tensor, offsets: Tensor):
        self.indices, self.offsets = indices, offsets  # [nnz], [n_bags]

    @cached_property
    def bag(self) -> Tensor:
        """Bag of each code, [nnz]."""
        ends = torch.cat([self.offsets[1:], self.offsets.new_tensor([len(self.indices)])])
        numbers = torch.arange(len(self.offsets), device=self.indices.device)
        return numbers.repeat_interleave(ends - self.offsets, output_size=len(self.indices))

    @cached_property
    def order(self) -> Tensor:
        """Permutation that sorts the codes by latent, [nnz]."""
        return self.indices.argsort(stable=True)

    @cached_property
    def ordered_bag(self) -> Tensor:
        """Bag of each code, in that order, [nnz]."""
        return self.bag[self.order]

    def starts(self, n_latents: int) -> Tensor:
        """Where each latent's codes start in that order, [n_latents]."""
        counts = self.indices.bincount(minlength=n_latents)
        return counts.cumsum(0) - counts


def sum_rows(table: Tensor, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of a table's rows, out_n = sum_{j in bag n} weights_j table[indices_j]; 0 for an empty bag.

    Args:
        table: [rows, d]; indices and weights: [nnz]; offsets: first code of each bag, [n_bags].
    Returns:
        [n_bags, d].
    """
    return F.embedding_bag(indices, table.contiguous(), offsets, per_sample_weights=weights.contiguous(), mode="sum")


def sum_rows_by_latent(rows: Tensor, weights: Tensor, bags: Bags, n_latents: int, per_row: int = 1) -> Tensor:
    """Gradient of a sparse layer's weights, out_i = sum over the codes j of latent i of weights_j rows[bag of j].

    Args:
        rows: [n_bags / per_row, d]; weights: [nnz]; per_row: adjacent bags that share a row.
    Returns:
        [n_latents, d].
    """
    bag = bags.ordered_bag if per_row == 1 else bags.ordered_bag // per_row
    return sum_rows(rows, bag, bags.starts(n_latents), weights[bags.order])


def sum_by_latent(weights: Tensor, indices: Tensor, n_latents: int) -> Tensor:
    """Sum of each latent's weights, [n_latents]."""
    return weights.new_zeros(n_latents).index_add_(0, indices, weights)


def dots(rows: Tensor, table: Tensor, bags: Bags) -> Tensor:
    """rows[bag of j] · table[latent of j] for every code j, [nnz]; rows [n_bags, d], table [n_latents, d]."""
    if len(bags.indices) == 0:
        return rows.new_zeros(0)
    backward = torch.ops.aten._embedding_bag_per_sample_weights_backward
    return backward(rows.contiguous(), table.contiguous(), bags.indices, bags.offsets, bags.bag, 0, -1)
