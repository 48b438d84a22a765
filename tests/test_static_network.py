"""The network for one input size: the same function as the network of any size, in the layouts that converters need."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made import mobile
from made.street import street

from fastscnn.network.static import StaticNetwork
from fastscnn.upsampling import upsample


@pytest.mark.parametrize(("variant", "size", "channels"), [*mobile.UNUSUAL, ("paper", (64, 96), 3)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_it_computes_the_same(variant: str, size: tuple[int, int], channels: int, channels_last: bool) -> None:
    exported = mobile.untrained_export(variant, size, channels)
    network = StaticNetwork(exported.network, size, channels_last=channels_last)
    images, wanted = torch.from_numpy(mobile.noise(exported)), torch.from_numpy(mobile.expected(exported))
    got = network(images).permute(0, 3, 1, 2) if channels_last else network(images.permute(0, 3, 1, 2))
    assert wanted.std() > 0.05
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_labels_are_those_of_its_logits() -> None:
    exported = mobile.bundled_export((96, 160))
    scene = street(96, 160).image
    network = StaticNetwork(exported.network, (96, 160), labels=(192, 320), channels_last=True)
    labels = network(torch.from_numpy(scene[None]))
    with torch.no_grad():
        logits = exported.network(torch.from_numpy(scene[None]))
    wanted = upsample.labels(logits[0].numpy(), (192, 320))
    assert labels.dtype == torch.int32
    assert len(np.unique(wanted)) > 2
    assert np.mean(labels[0].numpy() == wanted) > 0.9999


def test_the_network_that_it_is_made_of_stays_the_same() -> None:
    exported = mobile.untrained_export("paper", (64, 64), 3)
    before = {name: value.clone() for name, value in exported.network.state_dict().items()}
    StaticNetwork(exported.network, (64, 64))
    assert before.keys() == exported.network.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in exported.network.state_dict().items())
