"""What is read of a classifier, and where."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lib.models.image_models import image_model
from lib.studies.topoloss_hypotheses.module_names import module_names
from lib.studies.topoloss_hypotheses.readings import readings
from lib.training import prepare


def test_module_names_of_a_transformer_and_of_a_residual_network():
    vit = module_names(image_model("tiny_vit", 16, 1, 3, 0, patch=8, depth=4))
    assert vit.site == "blocks.2" and vit.codes == "blocks.2.mlp.act" and len(vit.blocks) == 4
    resnet = image_model("resnet18", 16, 3, 3, 0)
    at = module_names(resnet)
    assert at.site == "layer3" and at.blocks == ("layer1", "layer2", "layer3", "layer4")
    with pytest.raises(ValueError, match="got a Linear"):
        module_names(nn.Linear(2, 2))


def test_readings_are_one_token_per_image_in_turn_and_the_class_token():
    model, rng = image_model("tiny_vit", 16, 1, 3, 0, patch=8, width=32, depth=2).eval(), np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 16, 16), dtype=np.uint8)
    found = readings(model, images, module_names(model))
    with torch.no_grad():
        x = model.patch_embed(prepare(torch.from_numpy(images)[:, None]))
        x = model._pos_embed(x)
        after = model.blocks(x)  # blocks.1, the site, is the last
    assert after.shape == (7, 5, 32)
    for i in range(7):
        assert torch.allclose(found["blocks.1"][i], after[i, i % 5], atol=1e-5)
    assert torch.allclose(found["class"], after[:, 0], atol=1e-5)
    assert torch.allclose(found["last"], model.norm(after)[:, 0], atol=1e-5) and found["codes"].shape == (7, 128)


def test_readings_of_a_convolution_are_places_and_their_mean():
    model = image_model("resnet18", 16, 3, 3, 0).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    found = readings(model, images, module_names(model))
    with torch.no_grad():
        x = model.act1(model.bn1(model.conv1(prepare(torch.from_numpy(images).permute(0, 3, 1, 2)))))
        stage = model.layer3(model.layer2(model.layer1(x)))  # [3, 256, 4, 4]
    assert torch.allclose(found["class"], stage.mean((2, 3)), atol=1e-4)
    assert torch.allclose(found["layer3"][2], stage[2, :, 0, 2], atol=1e-4)
