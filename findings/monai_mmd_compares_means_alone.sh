#!/usr/bin/env bash
# MONAI 1.6.1: MMDMetric has a linear kernel, so that it compares means alone.
#
# Expected: a maximum mean discrepancy that is 0 only between equal distributions, as Gretton et al. define it, which the
#           documentation cites, and that "is non-negative".
# Seen:     the product of voxels is the kernel. A set whose images are all the average image scores better than other
#           real ones, images of ten times the contrast around the same mean score below 0, and so "best" of all.
# Matters:  papers on synthetic brain MRI report this number for how real a set is. A generator that has collapsed to the
#           average brain wins it. Map images to features and use a Gaussian kernel.
# Source:   https://pypi.org/project/monai/1.6.1/ (Project-MONAI/MONAI), torch 2.13.0; run on 2026-11-30
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 monai==1.6.1
cd "$work"
venv/bin/python - <<'PY'
import torch
from monai.metrics import MMDMetric

generator = torch.Generator().manual_seed(0)
average = torch.linspace(0, 1, 36).view(1, 1, 6, 6)
real = average + torch.randn(64, 1, 6, 6, generator=generator)
others = average + torch.randn(64, 1, 6, 6, generator=generator)
mmd = MMDMetric()
scores = {
    "other images of the same distribution": float(mmd(real, others)),
    "64 copies of the average image": float(mmd(real, average.expand(64, -1, -1, -1))),
    "ten times the contrast, same mean": float(mmd(real, real.mean(0) + 10 * (others - others.mean(0)))),
}
for name, score in scores.items():
    print(f"{name}: {score:.3f}")
same, collapsed, wild = scores.values()
assert collapsed < same
assert wild < 0 < same
PY
