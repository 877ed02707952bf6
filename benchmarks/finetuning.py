"""Does Latent Drifting help fine-tuning on few scans? Schemes with and without it, after different numbers of steps.

A few scans of one contrast are learnt from; what the tuned model draws is compared with scans of *other* people of
the same cache. The cache should be one that the bundle was not trained on.

    python benchmarks/finetuning.py --cache CACHE --work WORK --out benchmarks/results/finetuning.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from scipy.stats import mannwhitneyu

from BrainGenLib import bundles, spaces
from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.drift import Drift
from BrainGenLib.diffusion.samplers import sample_dpmpp_2m
from BrainGenLib.evaluation import fidelity
from BrainGenLib.evaluation.features import features
from BrainGenLib.evaluation.results import Result, Table
from BrainGenLib.methods.brain_ldm import BrainLDM
from BrainGenLib.networks.label_unet import LabelUNet
from BrainGenLib.training import finetuning
from BrainGenLib.training.finetuning_material import conditions_of, encoded
from BrainGenLib.training.image_material import ImageMaterial, Picture, tensor_of
from BrainGenLib.training.run import pick_device, size_for
from BrainGenLib.training.schemes import SCHEMES

COLUMNS = ("FID deep", "MMD deep", "FID fine", "MMD fine", "MS-SSIM of pairs", "AUC")
RIDGE = 1.0
PAIRS = 12
UNTUNED = (
    "scans that are learnt from (floor)",
    "untuned",
    "untuned, drift when drawing",
    "untuned, mean of the latent corrected",
    "untuned, terminal noise not pure",
    "untuned, terminal noise not pure, drift when drawing",
)
"""What is compared beside what is tuned."""

Images = list[np.ndarray]


@dataclass
class Setting:
    """What all rows of one seed share.

    Attributes:
        few, others: scans to learn from, and those of other people to compare with.
        ages: what is asked for of each sample, in years; empty if the bundle or the scans do not know ages.
        oldest: the age that tells the two classes of the classifier apart.
    """

    model: BrainLDM
    bundle: bundles.Bundle
    ruler: LabelUNet
    few: list[Picture]
    others: list[Picture]
    samples: int
    steps: int
    seed: int
    ages: np.ndarray
    oldest: float

    @property
    def contrast(self) -> str:
        return self.few[0].contrast

    @torch.no_grad()
    def draw(self, model: BrainLDM, shift: torch.Tensor | None = None, *, leading: bool = False) -> Images:
        """Samples at the asked ages.

        Args:
            model: what draws them.
            shift: (C,), added to the channels of their latents.
            leading: as with a schedule that does not end in pure noise, what the paper's models have.
        """
        images = []
        for number in range(self.samples):
            generator = torch.Generator().manual_seed(10_000 * (self.seed + 1) + number)
            noise = torch.randn(1, *model.latent_shape, generator=generator).to(model.device)
            if leading:
                denoiser = model.denoiser(self.asked(number), self.contrast, 1.0)
                steps = schedules.cosine().leading(self.steps)
                z = sample_dpmpp_2m(denoiser, model.drift.added_to(noise), steps)
            else:
                z = model.sample(noise, self.asked(number), self.contrast, 1.0, self.steps)
            if shift is not None:
                z = z + shift.view(1, -1, 1, 1, 1) * model.diffusion.inside
            images.append(model.decode(z).clamp(0, 1)[0, 0].cpu().numpy())
        return images

    def asked(self, number: int) -> dict[str, float]:
        """Conditions of a sample."""
        return {"age": float(self.ages[number])} if len(self.ages) else {}


def looks(images: Sequence[np.ndarray], ruler: LabelUNet) -> dict[str, np.ndarray]:
    """Features of images on GRID_2MM, by level (n, d); of the brain as a whole, since samples have no labels."""
    coarse, fine = spaces.GRID_2MM, spaces.GRID_1MM
    found = []
    for image in images:
        volume = spaces.resample(image.astype(np.float32), coarse.affine, fine.shape, fine.affine)
        # What the decoder leaves of background is not exactly 0.
        brain = volume > 0.05
        # A class that is of no tissue: each tissue then takes the features of the brain.
        classes = np.where(brain if brain.any() else volume >= 0, 255, 0).astype(np.uint8)
        found.append(features(ruler, np.where(brain, volume, 0).astype(np.float32), classes))
    return {level: np.stack([one[level] for one in found]) for level in found[0]}


def auc(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float | None:
    """Area under the curve, on real scans, of a logistic regression that learnt from samples; None of one class."""
    if len(set(labels.tolist())) < 2 or len(set(truth.tolist())) < 2:
        return None
    x, y = torch.from_numpy(train), torch.from_numpy(labels.astype(np.float64))
    weights = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scores = x @ weights[:-1] + weights[-1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(scores, y, reduction="sum")
        value = value + RIDGE / 2 * weights[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    scores = test @ weights[:-1].detach().numpy()
    pairs = truth.sum() * (~truth).sum()
    return float(mannwhitneyu(scores[truth], scores[~truth]).statistic / pairs)


class Judge:
    """Compares sets of images with the scans of other people, in the directions that those vary in."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.real = looks([scan.image / np.float32(255) for scan in setting.others], setting.ruler)
        count = max(2, min(16, len(setting.others) // 4))
        self.whitening = {level: fidelity.Whitening(values, count) for level, values in self.real.items()}

    def __call__(self, images: Images, ages: np.ndarray) -> list[float | None]:
        """One number for each of COLUMNS."""
        found = looks(images, self.setting.ruler)
        row: list[float | None] = []
        for level in ("deep", "fine"):
            a, b = (self.whitening[level](values[level]) for values in (found, self.real))
            row += [fidelity.frechet_distance(a, b), fidelity.mmd(a, b, fidelity.median_bandwidth(b))]
        row.append(fidelity.ms_ssim_diversity(images, PAIRS, np.random.default_rng(0)))
        known = [i for i, scan in enumerate(self.setting.others) if "age" in scan.conditions]
        score = None
        if len(ages) and known:
            truth = np.array([self.setting.others[i].conditions["age"] > self.setting.oldest for i in known])
            whitening = self.whitening["fine"]
            score = auc(
                whitening(found["fine"]), ages > self.setting.oldest, whitening(self.real["fine"][known]), truth
            )
        row.append(score)
        return row


def setting_of(arguments: argparse.Namespace, seed: int, ruler: LabelUNet) -> Setting:
    """Another seed takes other people to learn from, and other noise.

    Raises:
        SystemExit: too few people have a scan of the contrast.
    """
    bundle = bundles.find(arguments.bundle)
    model = BrainLDM.from_bundle(bundle, str(pick_device(arguments.device)))
    scans = [scan for scan in ImageMaterial(arguments.cache).scans if scan.contrast == arguments.contrast]
    people = np.random.default_rng(seed).permutation(sorted({scan.case for scan in scans}))
    if len(people) < arguments.scans + 4:
        raise SystemExit(f"{len(people)} people have a {arguments.contrast} scan; {arguments.scans + 4} are needed.")
    chosen = set(people[: arguments.scans].tolist())
    compared = set(people[arguments.scans : arguments.scans + arguments.others].tolist())
    few, others = ([scan for scan in scans if scan.case in some] for some in (chosen, compared))
    known = [scan.conditions["age"] for scan in scans if "age" in scan.conditions]
    offered = any(one.name == "age" for one in bundle.metadata.conditions)
    ages = np.array([])
    if offered and known:
        # In turns young and old, so that the classifier has as many of both.
        ages = np.random.default_rng(seed).permutation(np.quantile(known, np.linspace(0.05, 0.95, arguments.samples)))
    oldest = float(np.median(known)) if known else 0.0
    return Setting(
        model,
        bundle,
        ruler,
        few,
        others,
        arguments.samples,
        arguments.sampler_steps,
        seed,
        ages,
        oldest,
    )


def rows_of(setting: Setting, arguments: argparse.Namespace) -> dict[str, list[float | None]]:
    """One row for each way of drawing, by its name; what is in the seed's folder of ``arguments.work`` is kept."""
    work = arguments.work / f"seed-{setting.seed}"
    work.mkdir(parents=True, exist_ok=True)
    # What is rendered in another way is not to be mixed with it.
    kept = work / f"rows-{setting.samples}-{setting.steps}.json"
    known: dict[str, list[float | None]] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    plans = {
        f"{scheme}, {'drift' if drift else 'no drift'}, {steps} steps": (scheme, drift, steps)
        for scheme in arguments.schemes
        for drift in (False, True)
        for steps in arguments.steps
    }
    if known.keys() >= {*UNTUNED, *plans}:
        return {name: known[name] for name in (*UNTUNED, *plans)}
    judge, model, metadata = Judge(setting), setting.model, setting.bundle.metadata
    size = size_for(torch.device(model.device))
    chosen = finetuning.drift_for("auto", model, setting.few, metadata)
    if not known:
        known = dict(zip(UNTUNED, untuned(setting, judge, Drift(chosen.delta)), strict=True))
    examples = encoded(setting.few, model, metadata, size, work / "latents.npz")
    prior = None
    if "dreambooth" in arguments.schemes:
        prior = finetuning.prior_of(model, setting.few, metadata, finetuning.PRIOR[size], work / "prior.npz")
    missing_plans = [name for name in plans if name not in known]
    for name in track(missing_plans, f"seed {setting.seed}"):
        scheme, drift, steps = plans[name]
        tuned, _ = finetuning.tune(
            model,
            setting.few,
            examples,
            prior if scheme == "dreambooth" else None,
            metadata,
            work / f"{scheme}-{'drift' if drift else 'plain'}-{steps}",
            scheme,
            Drift(chosen.delta) if drift else model.drift,
            arguments.variant,
            steps,
        )
        known[name] = judge(setting.draw(tuned), setting.ages)
        kept.write_text(json.dumps(known, indent=1), "utf-8")
    return {name: known[name] for name in (*UNTUNED, *plans)}


def untuned(setting: Setting, judge: Judge, drift: Drift) -> list[list[float | None]]:
    """Rows of :data:`UNTUNED`."""
    model = setting.model
    drifting = finetuning.with_diffusion(model, model.diffusion, drift)
    ages = np.array([scan.conditions.get("age", np.nan) for scan in setting.few])
    return [
        judge(
            [scan.image / np.float32(255) for scan in setting.few], ages if np.isfinite(ages).all() else np.array([])
        ),
        judge(setting.draw(model), setting.ages),
        judge(setting.draw(drifting), setting.ages),
        judge(setting.draw(model, missing(setting)), setting.ages),
        judge(setting.draw(model, leading=True), setting.ages),
        judge(setting.draw(drifting, leading=True), setting.ages),
    ]


@torch.no_grad()
def missing(setting: Setting) -> torch.Tensor:
    """What the channel means of samples lack to those of the scans, in cells that are not always background (C,)."""
    model, count = setting.model, len(setting.few)
    share = model.diffusion.inside.mean()
    real = torch.cat([model.encode(tensor_of([scan]).to(model.device)) for scan in setting.few])
    drawn = []
    for number in range(max(16, count)):
        noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(number)).to(model.device)
        conditions = conditions_of(setting.few[number % count], setting.bundle.metadata)
        drawn.append(model.sample(noise, conditions, setting.contrast, 1.0, setting.steps))
    inside = model.diffusion.inside
    return ((real * inside).mean((0, 2, 3, 4)) - (torch.cat(drawn) * inside).mean((0, 2, 3, 4))) / share


def summary(per_seed: list[dict[str, list[float | None]]]) -> list[list[str | float | int | None]]:
    """Mean over the seeds, with the standard deviation if there are several."""
    rows: list[list[str | float | int | None]] = []
    for name in per_seed[0]:
        cells: list[str | float | int | None] = [name]
        for column in range(len(COLUMNS)):
            values = [value for seed in per_seed if (value := seed[name][column]) is not None]
            if len(values) < 2:
                # All that some seeds learn from may be on one side of the median age.
                alone = len(per_seed) > 1 and values
                cells.append(f"{values[0]:.3g} (one seed)" if alone else values[0] if values else None)
            else:
                cells.append(f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.2g}")
        rows.append(cells)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cache", type=Path, required=True, help="training cache of scans that the bundle has not seen"
    )
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="folder of the runs of this bundle and cache; what is there is not done again",
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--bundle", default="brain-ldm")
    parser.add_argument("--contrast", default="T1w")
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    parser.add_argument("--variant", choices=("V1", "V2", "V3"), default="V3")
    parser.add_argument("--scans", type=int, default=10, help="people to learn from")
    parser.add_argument("--others", type=int, default=200, help="people to compare with, if there are as many")
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 100], help="of training")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--sampler-steps", type=int, default=15)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    ruler_bundle = bundles.find("segmenter")
    ruler = ruler_bundle.load("segmenter", str(pick_device(arguments.device)))
    assert isinstance(ruler, LabelUNet)
    per_seed = [rows_of(setting_of(arguments, seed, ruler), arguments) for seed in range(arguments.seeds)]
    result = Result(
        name="finetuning",
        title="Fine-tuning on few scans, with and without Latent Drifting",
        tables=[
            Table(
                title=f"{arguments.scans} {arguments.contrast} scans",
                columns=["images", *COLUMNS],
                rows=summary(per_seed),
            ),
            Table(
                title=f"{COLUMNS[0]}, by seed",
                columns=["images", *(f"seed {seed}" for seed in range(arguments.seeds))],
                rows=[[name, *(seed[name][0] for seed in per_seed)] for name in per_seed[0]],
            ),
        ],
        settings={
            "bundle": bundles.find(arguments.bundle).sha256[:12],
            "segmenter": ruler_bundle.sha256[:12],
            "variant": arguments.variant,
            "scans": arguments.scans,
            "others": arguments.others,
            "samples": arguments.samples,
            "sampler_steps": arguments.sampler_steps,
            "seeds": arguments.seeds,
        },
        notes=[
            "Distances are to scans of people of the same cache whom nothing was tuned on, on features of this "
            "project's own segmenter over the whole brain: not comparable with published FID.",
            "MS-SSIM of pairs: lower is more diverse. AUC: of a logistic regression on those features that tells "
            "older from younger than the median, learnt from samples and tested on scans.",
            "“Mean of the latent corrected” adds to every sample what the channel means of samples lack to those of "
            "the scans: what drift gains beyond this is not a shift of brightness.",
            "The schedule of brain-ldm ends in pure noise (zero terminal signal-to-noise ratio); “terminal noise not "
            "pure” starts one step before, as the schedules do that the paper works with.",
            "Fréchet distances depend on the number of images: that of the floor is of as many as there are scans.",
            "With several seeds: mean ± standard deviation; each takes other people to learn from, and other noise.",
        ],
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
