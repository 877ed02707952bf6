#!/usr/bin/env bash
# MONAI 1.6.1: DDIMScheduler's timesteps and its steps no longer fit together; in 1.5.1 they do.
#
# Expected: step(t) arrives at the noise of the next entry of `timesteps`, and seeds give the same image in both versions.
# Seen:     with 1000 training and 10 sampling steps 1.5.1 visits 900, 800, … 0 and step() goes down by 100. 1.6.1 visits
#           999, 888, … 0, but step() still goes down by 100: from 999 to the noise of 899, where the network is asked
#           about 888. The last step goes from the noise of 11 to the image with the network's answer for 0.
# Matters:  the model zoo's latent diffusion of brains (UK Biobank) is sampled with this scheduler: the same seed gives
#           other brains in 1.6 than in 1.5, from noise that the network was not asked about, the more so the fewer the
#           steps. Figures of sampled images need MONAI's version beside them.
# Source:   https://pypi.org/project/monai/1.5.1/ and 1.6.1 (Project-MONAI/MONAI), torch 2.13.0; run on 2026-11-30
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
for version in 1.5.1 1.6.1; do
  "$work/venv/bin/pip" install --quiet --no-deps --target "$work/monai-$version" "monai==$version"
done
cd "$work"
cat > steps.py <<'PY'
"""For each of ten timesteps: at which timestep's noise a step with an exact denoiser arrives; -1 is the image."""

import monai
import torch
from monai.networks.schedulers import DDIMScheduler

scheduler = DDIMScheduler(num_train_timesteps=1000)
scheduler.set_timesteps(10)
shares = scheduler.alphas_cumprod
image, noise = torch.full((1, 1, 4, 4), 0.5), torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
visited, arrived = [int(t) for t in scheduler.timesteps], []
for t in visited:
    before = shares[t] ** 0.5 * image + (1 - shares[t]) ** 0.5 * noise
    after, _ = scheduler.step(noise, t, before)
    distances = [(shares[p] ** 0.5 * image + (1 - shares[p]) ** 0.5 * noise - after).abs().max() for p in range(1000)]
    nearest = min(range(1000), key=distances.__getitem__)
    arrived.append(-1 if torch.allclose(after, image, atol=1e-5) else nearest)
print(monai.__version__, "visits", visited, "arrives at", arrived)
expected = {
    "1.5.1": ([900, 800, 700, 600, 500, 400, 300, 200, 100, 0], [800, 700, 600, 500, 400, 300, 200, 100, 0, -1]),
    "1.6.1": ([999, 888, 777, 666, 555, 444, 333, 222, 111, 0], [899, 788, 677, 566, 455, 344, 233, 122, 11, -1]),
}
assert (visited, arrived) == expected[monai.__version__]
PY
for version in 1.5.1 1.6.1; do
  PYTHONPATH="$work/monai-$version" venv/bin/python steps.py
done
