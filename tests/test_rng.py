"""lib.rng: streams are stable, independent and never the global one."""
import numpy as np
import pytest
import torch

from lib.rng import generator, numpy_generator, stream_seed


def test_stream_seed_is_stable_across_versions():
    assert stream_seed(0) == stream_seed(np.int64(0)) == 3456079177858693020
    assert stream_seed(0, "data") == 736872305540241488


def test_streams_differ_by_seed_and_label():
    paths = [(), ("data",), ("init",), ("data", 1), ("data1",)]
    seeds = {stream_seed(s, *labels) for s in range(50) for labels in paths}
    assert len(seeds) == 250


def test_generators_repeat_and_leave_the_global_state_alone():
    before_torch, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    draws = [torch.rand(3, generator=generator(1, "x")) for _ in range(2)]
    assert torch.equal(*draws)
    assert np.array_equal(numpy_generator(1, "x").random(3), numpy_generator(1, "x").random(3))
    assert torch.equal(torch.get_rng_state(), before_torch) and np.array_equal(np.random.get_state()[1], before_numpy)


@pytest.mark.parametrize("bad", [1.0, True, "1", None])
def test_seed_must_be_an_int(bad):
    with pytest.raises(TypeError, match="seed must be an int"):
        stream_seed(bad)
