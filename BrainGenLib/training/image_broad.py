"""Recipe: the image diffusion on painted images alone, which knows every contrast and no scan."""

from __future__ import annotations

from functools import partial

from BrainGenLib.training import image_diffusion

train = partial(image_diffusion.train, broad=True)
