"""The table of points as a generator, and neurons with thresholds."""

import torch

from saddlegan.networks import PointGenerator, TwoLayerDiscriminator


def test_points_are_equally_likely_and_trainable(rng):
    G = PointGenerator(torch.arange(4.0)[:, None])
    sample = G(torch.randn(40_000, 1, generator=rng))
    counts = torch.bincount(sample.flatten().long(), minlength=4) / 40_000
    torch.testing.assert_close(counts, torch.full((4,), 0.25), atol=0.01, rtol=0)
    mean, factor = (moment.detach() for moment in G.moments())
    assert float(mean) == 1.5
    assert float((factor.T @ factor).squeeze()) == 1.25
    sample.sum().backward()
    assert bool((G.points.grad > 0).all())
    assert G(torch.tensor([[float("inf")], [-float("inf")]])).flatten().tolist() == [3.0, 0.0]


def test_biases_shift_the_neurons_and_stay_outside_the_path_norm():
    D = TwoLayerDiscriminator(1, 1, activation="relu", bias=True)
    with torch.no_grad():
        D.directions.fill_(1.0)
        D.outer.fill_(2.0)
        D.bias.fill_(-0.5)
    assert D(torch.tensor([[1.0], [0.25]])).tolist() == [1.0, 0.0]
    assert float(D.path_norm().detach()) == 2.0
    assert TwoLayerDiscriminator(1, 1).bias is None
