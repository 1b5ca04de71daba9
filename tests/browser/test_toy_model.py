"""The toy model that trains in the page: the library's numbers, and knobs that answer."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from built_site import Visit

from lib.ensembles import train_ensemble
from lib.models import toy_superposition
from lib.rng import numpy_generator

pytestmark = pytest.mark.browser
STEPS, BATCH = 50, 8
TRAIN = """([n, m, W, b, batches, importance]) => {
  const model = {n, m, W: Float64Array.from(W), b: Float64Array.from(b)}, state = toyModel.fresh(model);
  const steps = batches.map((x) => {
    const gradient = toyModel.lossAndGradient(model, x, importance);
    toyModel.adam(model, gradient, state);
    return gradient;
  });
  const first = steps[0];
  return {losses: steps.map((s) => s.loss), gradient: [...first.W, ...first.b], theta: [...model.W, ...model.b]};
}"""


def test_the_page_computes_what_the_library_computes(visit: Visit):
    """100 settings, 50 steps of Adam each: loss, first gradient and final W and b to 1e-5 (in truth to 1e-10)."""
    page, rng = visit.open("instruments/toy_models.html"), numpy_generator(0, "toy model in the page")
    for _ in range(100):
        n, m = int(rng.integers(2, 21)), int(rng.integers(1, 7))
        x = rng.uniform(size=(STEPS, BATCH, n)) * (rng.uniform(size=(STEPS, BATCH, n)) > rng.uniform())
        W, b, importance = rng.normal(size=(m, n)), 0.1 * rng.normal(size=n), rng.uniform(0.5, 1) ** np.arange(n)
        given = [n, m, W.ravel().tolist(), b.tolist(), x.reshape(STEPS, -1).tolist(), importance.tolist()]
        theirs = page.evaluate(TRAIN, given)
        rows, weights = toy_superposition.layout(n, m), torch.tensor(importance)[None]
        start = rows.pack(W=torch.tensor(W)[None], b=torch.tensor(b)[None])
        loss = toy_superposition.sampled_loss(n, m, map(lambda s: torch.tensor(s)[None], x).__next__, weights)
        ours = train_ensemble(loss, start, STEPS, lr=0.01, log_at=range(1, STEPS + 1))
        gradient = torch.zeros_like(start)
        toy_superposition.sampled_loss(n, m, lambda x=x: torch.tensor(x[0])[None], weights)(start, gradient)
        np.testing.assert_allclose(theirs["losses"], ours.losses[:, 0], atol=1e-5)
        np.testing.assert_allclose(theirs["gradient"], gradient[0], atol=1e-5)
        np.testing.assert_allclose(theirs["theta"], ours.theta[0], atol=1e-5)


def test_knobs_start_the_model_anew_and_the_button_trains_on(visit: Visit):
    page = visit.open("instruments/toy_models.html")
    room, said = page.locator(".toy-model"), page.locator(".toy-model .said")
    assert "300 steps: 5 of 5 features stored in 2 dimensions" in said.inner_text()
    assert room.locator("svg").first.locator("line").count() == 5
    room.locator("input[name=S]").fill("0.7")
    assert "4 of 5 features stored" in said.inner_text()
    room.locator("input[name=S]").fill("0")
    assert "2 of 5 features stored" in said.inner_text(), "dense features get as many as there are dimensions"
    room.locator("input[name=m]").fill("3")
    assert "in 3 dimensions" in said.inner_text() and room.locator("svg").first.locator("rect").count() == 3 * 5 + 1
    room.get_by_role("button", name="Train on").click()
    page.wait_for_function("parseInt(document.querySelector('.toy-model .said').textContent) > 400")
    room.get_by_role("button", name="Pause").click()
    steps = int(said.inner_text().split()[0])
    page.wait_for_timeout(200)
    assert int(said.inner_text().split()[0]) == steps and visit.errors == []


def test_a_step_takes_less_than_a_tenth_of_a_second_at_the_largest_size(visit: Visit):
    page = visit.open("instruments/toy_models.html")
    took = page.evaluate("""() => {
      const random = toyModel.uniform(1), model = toyModel.start(20, 6, random);
      const ones = Array(20).fill(1), began = performance.now();
      for (let i = 0; i < 10; i++) toyModel.lossAndGradient(model, toyModel.sample(20, 256, 0.5, random), ones);
      return (performance.now() - began) / 10;
    }""")
    assert took < 100
