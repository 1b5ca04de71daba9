"""The batched autoencoder follows the published module, tied by shared storage or untied by a copy."""
from __future__ import annotations

import copy

import pytest
import torch
from published_modules import SharedSAE, train_shared

from lib.studies.incidental_polysemanticity import leaky_sae
from lib.studies.incidental_polysemanticity.leaky_sae import train_sae


def acts(rows: int = 2, n: int = 60) -> torch.Tensor:
    return torch.randn(rows, n, 12, generator=torch.Generator().manual_seed(1)).relu().double()


def module(row: torch.Tensor) -> SharedSAE:
    at = leaky_sae.sae_layout(12).views(row.double())
    with torch.no_grad():
        return SharedSAE(at["W_dec"].T.float(), at["b_enc"].float())


def test_published_module_ties_by_storage_and_a_cast_or_copy_unties_it():
    sae = module(leaky_sae.initial(12, [0])[0])
    shared = sae.encoder.weight.data_ptr() == sae.decoder.weight.data_ptr()
    assert shared and not sae.encoder.weight.is_contiguous()
    train_shared(sae, acts(1)[0].float(), 5)
    assert torch.equal(sae.encoder.weight, sae.decoder.weight.T)
    for untied in (copy.deepcopy(sae).double(), copy.deepcopy(sae).to(torch.float64)):
        assert untied.encoder.weight.data_ptr() != untied.decoder.weight.data_ptr()
        assert torch.equal(untied.encoder.weight, untied.decoder.weight.T)
        train_shared(untied, acts(1)[0], 5)
        assert not torch.allclose(untied.encoder.weight, untied.decoder.weight.T, atol=1e-5)


def test_untied_rows_follow_the_module_that_a_cast_untied():
    data, start = acts(), leaky_sae.initial(12, [0, 1]).double()
    done = train_sae(data, start=start, steps=40)
    for row in range(2):
        plain = module(start[row]).double()
        with torch.no_grad():
            plain.decoder.weight.copy_(leaky_sae.sae_layout(12).views(start[row])["W_dec"].T)
            plain.encoder.weight.copy_(plain.decoder.weight.T)
        train_shared(plain, data[row], 40)
        torch.testing.assert_close(done.W_dec[row], plain.decoder.weight.T.detach(), rtol=0, atol=1e-10)
        torch.testing.assert_close(done.W_enc[row], plain.encoder.weight.detach(), rtol=0, atol=1e-10)
        torch.testing.assert_close(done.b_enc[row], plain.encoder.bias.detach(), rtol=0, atol=1e-10)


def test_tied_rows_follow_the_module_with_one_storage():
    data, start = acts().float(), leaky_sae.initial(12, [0, 1])
    done = train_sae(data, start=start, steps=40, rule="storage")
    assert torch.equal(done.W_enc, done.W_dec)
    for row in range(2):
        plain = module(start[row])
        train_shared(plain, data[row], 40)
        torch.testing.assert_close(done.W_dec[row], plain.decoder.weight.T.detach(), rtol=0, atol=1e-5)
    untied = train_sae(data, start=start, steps=40)
    assert (untied.W_dec - done.W_dec).abs().max() > 1e-3


def test_per_sample_penalty_follows_autograd():
    """mean over samples of |a - â|^2 + penalty * sum|f|, decoder rows brought back to length 1 after each step."""
    data, start, penalty = acts(1), leaky_sae.initial(12, [3]).double(), 0.3
    done = train_sae(data, start=start, steps=30, rule="unit", penalty=penalty, slope=0.0)
    at = {name: view[0].clone().requires_grad_() for name, view in leaky_sae.sae_layout(12).views(start).items()}
    at["W_dec"].data.div_(at["W_dec"].data.norm(dim=1, keepdim=True))
    adam = torch.optim.Adam(at.values(), lr=1e-3)
    for _ in range(30):
        adam.zero_grad()
        latents = (data[0] @ at["W_enc"].T + at["b_enc"]).relu()
        loss = (latents @ at["W_dec"] - data[0]).square().sum(1).mean() + penalty * latents.abs().sum(1).mean()
        loss.backward()
        adam.step()
        at["W_dec"].data.div_(at["W_dec"].data.norm(dim=1, keepdim=True))
    for name, value in at.items():
        torch.testing.assert_close(getattr(done, name)[0], value.detach(), rtol=0, atol=1e-10)


def test_seeds_belong_to_their_rows():
    """Rows beyond the sixteenth are trained in a second working set."""
    data, start = acts(1).expand(18, -1, -1), leaky_sae.initial(12, [4] * 17 + [5])
    done = train_sae(data, start, 20, penalty=1e-2)
    alone = train_sae(data[:1], leaky_sae.initial(12, [4]), 20, penalty=1e-2)
    for row in range(1, 17, 2):
        torch.testing.assert_close(done.W_dec[row], alone.W_dec[0])
    torch.testing.assert_close(done.W_dec[16], done.W_dec[0])
    assert not torch.allclose(done.W_dec[1], done.W_dec[17])


def test_starts_are_transposes_of_unit_length_with_small_positive_biases():
    at = leaky_sae.sae_layout(12).views(leaky_sae.initial(12, range(20)))
    assert torch.equal(at["W_enc"], at["W_dec"])
    torch.testing.assert_close(at["W_dec"].norm(dim=2), torch.ones(20, 16))
    assert at["b_enc"].min() >= 0 and 0.09 < at["b_enc"].max() <= 0.1


def test_codes_and_reconstructions_have_the_published_form():
    data = acts(1)
    sae = train_sae(data, leaky_sae.initial(12, [0]), steps=3)
    pre = data[0] @ sae.W_enc[0].T + sae.b_enc[0]
    expected = torch.where(pre > 0, pre, 0.01 * pre)
    torch.testing.assert_close(sae.encode(data)[0], expected)
    torch.testing.assert_close(sae.decode(sae.encode(data))[0], expected @ sae.W_dec[0])
    assert sae.directions().shape == (1, 12, 16)


def test_wrong_names_and_counts_are_refused():
    with pytest.raises(ValueError, match="storage or unit"):
        train_sae(acts(), leaky_sae.initial(12, [0, 1]), rule="weights")
    with pytest.raises(ValueError, match="3 starts for 2 rows"):
        train_sae(acts(), leaky_sae.initial(12, [0, 1, 2]))
