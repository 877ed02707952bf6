"""Public bundles scaled down, with random weights in the formats in which the real ones are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from BrainGenLib import public_bundles
from BrainGenLib.bundles import file_digest
from BrainGenLib.public_bundles import PublicBundle

# Few channels give the same keys of the weights. In norms of the U-Nets several channels share a group: alone, a
# channel would lose what it is given of time and class.
SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "ukb-brain-ldm": {
        "autoencoder": {"channels": [32, 32, 32, 32]},
        "diffusion": {"channels": [32, 64, 64], "num_head_channels": [0, 64, 64], "norm_num_groups": 8},
    },
    "brats-ldm": {
        "autoencoder": {"channels": [32, 32, 32]},
        "diffusion": {"channels": [32, 32, 64], "num_head_channels": [0, 32, 64], "norm_num_groups": 8},
    },
    "nv-generate-mr-brain": {
        "autoencoder": {"num_channels": [32, 32, 32], "num_splits": 2},
        "diffusion": {"num_channels": [32, 32, 32, 32], "norm_num_groups": 8},
    },
}
LATENT = [4, 8, 4]


def small(name: str) -> PublicBundle:
    """An entry of the registry with few channels and a small latent; everything else is the real one."""
    entry = public_bundles.find(name)
    for network, arguments in SMALL[name].items():
        entry.metadata.networks[network].args |= arguments
    entry.metadata.parameters["latent_shape"][1:] = [16, 8, 8] if name.startswith("nv") else LATENT
    for file in entry.files.values():
        file.megabytes = 1.0
    return entry


def random_weights(entry: PublicBundle, network: str) -> dict[str, Tensor]:
    """Weights under the keys of the installed MONAI; none of them is zero everywhere, as MONAI starts some."""
    torch.manual_seed(0)
    state = entry.metadata.networks[network].build().state_dict()
    return {key: value + 0.05 * torch.randn_like(value) for key, value in state.items()}


def old_keys(state: dict[str, Tensor], unused: bool = False) -> dict[str, Tensor]:
    """The same weights as MONAI GenerativeModels names them; ``unused`` adds projections that it never applies."""
    old = {}
    for key, value in state.items():
        name = key.replace("postconv", "conv").replace(".attn.out_proj.", ".proj_attn.").replace(".attn.to_", ".to_")
        if "transformer_blocks" in name:
            name = name.replace(".out_proj.", ".to_out.0.")
        old[name] = value
        if unused and key.endswith(".attn.to_q.weight"):
            old[name.replace("to_q", "proj_attn")] = torch.ones_like(value)
            old[name.replace("to_q.weight", "proj_attn.bias")] = torch.ones(len(value))
    return old


def published(entry: PublicBundle, folder: Path) -> dict[str, dict[str, Tensor]]:
    """Write the files of an entry as they are published and state their checksums in it.

    Returns:
        The weights under the keys of the installed MONAI, by network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {network: random_weights(entry, network) for network in entry.files}
    for network, state in weights.items():
        file = entry.files[network]
        path = folder / file.names[0]
        if entry.name.startswith("nv"):
            checkpoint = {"epoch": 1, "unet_state_dict": state, "scale_factor": torch.tensor(1.25)}
            torch.save(checkpoint if file.holds else state, path)
        else:
            torch.save(old_keys(state, unused=entry.name == "brats-ldm"), path)
            file.md5 = file_digest(path, "md5")
    return weights
