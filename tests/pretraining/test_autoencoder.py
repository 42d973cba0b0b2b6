"""Pre-training as an autoencoder."""

from __future__ import annotations

from functools import partial

import torch

from occ_lab.backbones.lenet import LeNet
from occ_lab.pretraining.autoencoder import Autoencoder
from occ_lab.utils.optimizers import optimizing


def test_the_loss_is_the_squared_error_of_an_image_and_trains_both() -> None:
    net = LeNet()
    image = torch.rand(5, 3, 28, 28)
    net.prepare([image])
    stage = Autoencoder(net, partial(torch.optim.Adam, lr=0.01), None).eval()
    loss = stage.training_step({"image": image}, 0)
    x = net.normalized(image)
    expected = ((stage.decoder(net.encode(x)) - x) ** 2).flatten(1).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in stage.parameters())


def test_it_learns() -> None:
    torch.manual_seed(0)
    net = LeNet()
    image = torch.rand(8, 3, 28, 28)
    net.prepare([image])
    stage = Autoencoder(net, partial(torch.optim.Adam, lr=0.01), None)
    optimizer = stage.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    losses = []
    for _ in range(30):
        loss = stage.training_step({"image": image}, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_a_schedule_is_given_with_the_optimizer() -> None:
    free, frozen = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1), False)
    made = optimizing(
        [free, frozen],
        partial(torch.optim.Adam, lr=1.0),
        partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[1], gamma=0.1),
    )
    assert isinstance(made, dict)
    assert made["optimizer"].param_groups[0]["params"] == [free]
    made["optimizer"].step()
    made["lr_scheduler"].step()
    assert made["optimizer"].param_groups[0]["lr"] == 0.1
