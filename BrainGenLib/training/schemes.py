"""Which weights of a denoiser's U-Net each scheme of fine-tuning trains, chosen by the type of its modules.

Two kinds of U-Net are known: this project's (:class:`~BrainGenLib.networks.noise_unet.UNet`), into which conditions
enter through the perceptron ``code`` and the ``film`` layers, and MONAI's, into which they enter as context of the
cross-attention. Beside that of Stable Diffusion, for which the schemes were made:

- textual inversion (Gal et al. 2023, arXiv 2208.01618): there the embedding of a new word, here a :class:`Token`;
- DreamBooth (Ruiz et al. 2023, arXiv 2208.12242): the U-Net with a rare word and prior preservation, here the U-Net
  with a :class:`Token` and the same;
- Custom Diffusion (Kumari et al. 2023, arXiv 2212.04488): keys and values of the cross-attention, and in this
  project's U-Net, which has none, ``code`` and ``film``;
- basic: the U-Net;
- LoRA (Hu et al. 2022, arXiv 2106.09685): low-rank terms, here of the convolutions (:class:`LowRank`).

Whatever was trained, :func:`merge` leaves a network of the kind that it was.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from monai.networks.blocks import CrossAttentionBlock
from torch import nn
from torch.nn.utils import parametrize

from BrainGenLib.errors import BadInput
from BrainGenLib.networks.noise_unet import Residual, UNet

Scheme = Literal["basic", "textual-inversion", "dreambooth", "custom-diffusion", "lora"]
SCHEMES: tuple[str, ...] = get_args(Scheme)
RANK = 4


class Token(nn.Module):
    """A new word: a vector added where a linear layer embeds what the network is conditioned on.

    The layer's columns are the embeddings of contrasts and conditions; ``vector`` is one more, whose number is always
    1. It starts at 0, so that the new word begins by meaning nothing beside the contrast that it is said with.

    Attributes:
        said: whether it is given; off, the network is what it would be without the word.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.vector = nn.Parameter(torch.zeros_like(layer.bias))
        self.said = True

    def forward(self, told: torch.Tensor) -> torch.Tensor:
        embedded = self.layer(told)
        return embedded + self.vector if self.said else embedded

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The layer with the word always said: its bias takes the vector."""
        self.layer.bias.add_(self.vector)
        return self.layer


class LowRank(nn.Module):
    """W + up·down of a convolution's weight W (outputs, inputs, …): to ``rank`` channels and, by 1×1×1, on to all.

    ``up`` starts at 0, so that nothing changes at first.
    """

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(weight.new_empty(rank, weight[0].numel()))
        self.up = nn.Parameter(weight.new_zeros(len(weight), rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5), generator=torch.Generator().manual_seed(0))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def adapt(network: nn.Module, scheme: Scheme) -> list[nn.Parameter]:
    """Make a U-Net, on the CPU, ready for a scheme.

    Returns:
        The parameters that it trains; all others are frozen.

    Raises:
        BadInput: the network has nothing that the scheme could train.
    """
    network.requires_grad_(False)
    if scheme == "textual-inversion":
        chosen = [_add_token(network).vector]
    elif scheme == "dreambooth":
        _add_token(network)
        chosen = list(network.parameters())
    elif scheme == "custom-diffusion":
        chosen = [parameter for module in _entrances(network) for parameter in module.parameters()]
    elif scheme == "lora":
        chosen = []
        for layer in [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]:
            term = LowRank(layer.weight, RANK)
            parametrize.register_parametrization(layer, "weight", term)
            chosen += [term.down, term.up]
    else:
        chosen = list(network.parameters())
    if not chosen:
        raise BadInput(f"This model has no layers that {scheme} could train; choose basic or lora.")
    for parameter in chosen:
        parameter.requires_grad_(True)
    return chosen


def merge(network: nn.Module) -> None:
    """Put what :func:`adapt` added into the weights: the same network to the outside, of its own kind again."""
    if (token := token_of(network)) is not None:
        assert isinstance(network, UNet)
        network.code[0] = token.merged()
    for module in network.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")


def token_of(network: nn.Module) -> Token | None:
    """The word that was added to a network, if any."""
    return next((module for module in network.modules() if isinstance(module, Token)), None)


def _add_token(network: nn.Module) -> Token:
    if not isinstance(network, UNet):
        raise BadInput(
            "A new word can be taught only to models of the family brain-ldm; choose basic, custom-diffusion or lora."
        )
    layer = network.code[0]
    assert isinstance(layer, nn.Linear)
    token = Token(layer)
    network.code[0] = token
    return token


def _entrances(network: nn.Module) -> list[nn.Module]:
    """The layers through which conditions enter."""
    found: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, UNet):
            found.append(module.code)
        elif isinstance(module, Residual):
            found.append(module.film)
        elif isinstance(module, CrossAttentionBlock):
            found += [module.to_k, module.to_v]
    return found
