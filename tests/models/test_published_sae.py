"""The published autoencoder: its activations by hand, its training against a plain torch loop."""
import pytest
import torch

from lib.models.published_sae import activate, train_published_sae
from lib.rng import generator


def test_activations_by_hand():
    h = torch.tensor([[-1.0, 0.05, 0.3, 0.2]])
    assert activate(h, "relu")[0].tolist() == pytest.approx([0, 0.05, 0.3, 0.2])
    assert activate(h, "shifted")[0].tolist() == pytest.approx([0, 0, 0.2, 0.1])  # shrinks what it keeps
    assert activate(h, "topk 2")[0].tolist() == pytest.approx([0, 0, 0.3, 0.2])
    for name in ("gelu", "topk", "topk x"):
        with pytest.raises(ValueError, match="relu, shifted or topk K"):
            activate(h, name)


def plain(x, n_latents, epochs, rng, batch):
    """One ReLU autoencoder by torch.optim.Adam."""
    d = x.shape[1]
    bound = (6 / (d + n_latents)) ** 0.5
    drawn = (2 * torch.rand(1, 2 * d * n_latents + n_latents + d, generator=rng) - 1)[0] * bound
    W1 = drawn[: d * n_latents].view(d, n_latents).clone().requires_grad_()
    W2 = drawn[d * n_latents + n_latents :][: d * n_latents].view(n_latents, d).clone().requires_grad_()
    b1, b2 = torch.zeros(n_latents, requires_grad=True), torch.zeros(d, requires_grad=True)
    adam = torch.optim.Adam([W1, b1, W2, b2], lr=1e-3)
    for _ in range(epochs):
        for rows in reversed(torch.randperm(len(x), generator=rng).split(batch)):
            loss = ((x[rows] @ W1 + b1).relu() @ W2 + b2 - x[rows]).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    latents = (x @ W1 + b1).relu()
    return (latents @ W2 + b2 - x).square().mean(), (latents == 0).double().mean()


def test_training_is_that_of_a_plain_loop():
    x = torch.randn(96, 10, generator=generator(0, "x"))
    done = train_published_sae(x, x, ["relu", "topk 3"], 16, 20, generator(1, "t"), batch=32)
    loss, share = plain(x, 16, 20, generator(1, "t"), 32)
    assert float(done.train_loss[0]) == pytest.approx(float(loss.detach()), rel=1e-4)
    assert float(done.inactive[0]) == pytest.approx(float(share), abs=2e-3)
    assert done.loss[0] == pytest.approx(float(done.train_loss[0])) and done.loss[0] < 1


def test_share_of_topk_is_fixed_by_k_before_and_after():
    x = torch.randn(64, 8, generator=generator(0, "x"))
    done = train_published_sae(x, x, ["topk 3"], 16, 5, generator(1, "t"))
    assert float(done.inactive[0]) == pytest.approx(1 - 3 / 16) == float(done.inactive_before[0])
