"""Latent drift on a population whose best denoiser is known: a channel mean that varies, and independent texture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.drift import REFERENCE_STEPS, Drift, per_step, started, training_pair
from BrainGenLib.diffusion.drift_choice import (
    DriftCurve,
    auto_delta,
    gain,
    l1_curve,
    l1_distance,
    leak,
    response,
    sampler_response,
    to_delta,
    to_units,
)
from BrainGenLib.diffusion.samplers import (
    clean_denoiser,
    epsilon_denoiser,
    flow_denoiser,
    invert_ddim,
    sample_ddim,
    sample_ddpm,
    sample_dpmpp_2m,
    velocity_denoiser,
)
from BrainGenLib.diffusion.schedules import Denoiser, Step
from BrainGenLib.errors import BadInput

BRAIN = schedules.scaled_linear(beta_end=0.0205, zero_terminal_snr=False)
BRAIN_GRID = (20, 28, 20)
STABLE_DIFFUSION = schedules.scaled_linear(beta_start=0.00085, beta_end=0.012, zero_terminal_snr=False)
LATENTS = {"brain": (BRAIN, BRAIN_GRID), "Stable Diffusion": (STABLE_DIFFUSION, (64, 64))}
COUNTS = [20, 50, 100, 200, 250]
TEXTURE = 0.7


@dataclass(frozen=True)
class Population:
    """Latents (n, C, …): channel mean ~ N(mean, spread²), all other modes ~ N(0, TEXTURE²)."""

    mean: torch.Tensor
    spread: torch.Tensor
    grid: tuple[int, ...]

    @property
    def positions(self) -> int:
        return math.prod(self.grid)

    def shaped(self, values: torch.Tensor) -> torch.Tensor:
        return values.view(-1, *(1,) * len(self.grid))

    def draw(self, count: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        texture = TEXTURE * noise(count, len(self.mean), self.grid, seed + 1)
        centred = texture - channel_means(texture, keepdim=True)
        levels = torch.randn(count, len(self.mean), generator=generator, dtype=torch.float64)
        levels = levels * self.spread + self.mean
        return centred + levels.view(*levels.shape, *(1,) * len(self.grid))

    def denoise(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        """E[z | x]: the mode of the channel mean and the others are independent."""
        mean, variance = self.shaped(self.mean), self.shaped(self.spread) ** 2
        level = channel_means(x, keepdim=True)
        shrunk = step.alpha * variance / (step.alpha**2 * variance + step.sigma**2 / self.positions)
        fine = step.alpha * TEXTURE**2 / (step.alpha**2 * TEXTURE**2 + step.sigma**2)
        return mean + shrunk * (level - step.alpha * mean) + fine * (x - level)


def population(grid: tuple[int, ...] = BRAIN_GRID, spread: float = 0.1) -> Population:
    """Three channels with means on both sides of 0."""
    return Population(torch.tensor([0.8, -0.3, 0.0]).double(), torch.full((3,), spread).double(), grid)


def noise(count: int, channels: int, grid: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, *grid, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def channel_means(x: torch.Tensor, keepdim: bool = False) -> torch.Tensor:
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=keepdim)


def sampled(people: Population, steps: list[Step], drift: Drift, seed: int = 0, count: int = 1) -> torch.Tensor:
    x = started(noise(count, len(people.mean), people.grid, seed), drift)
    return sample_ddim(people.denoise, x, steps, after_update=per_step(drift, steps))


def measured(people: Population, steps: list[Step], drift: Drift) -> torch.Tensor:
    """Change of the channel means by a drift of 1 at the same places, from one of 0.01."""
    small = Drift(0.01, drift.start, drift.step)
    return channel_means(sampled(people, steps, small) - sampled(people, steps, Drift(0.0)))[0] / 0.01


def seeded_ddpm(denoiser, x, steps, *, after_update):
    generator = torch.Generator().manual_seed(1)
    return sample_ddpm(denoiser, x, steps, after_update=after_update, generator=generator)


@pytest.mark.parametrize("sampler", [sample_ddim, sample_dpmpp_2m, seeded_ddpm])
@pytest.mark.parametrize("step", ["none", "literal", "normalised"])
def test_no_drift_is_bit_identical_to_plain_sampling(sampler, step):
    people, steps = population((4, 4, 4)), schedules.cosine().trailing(20)
    eps = noise(2, 3, people.grid)
    plain = sampler(people.denoise, eps, steps, after_update=lambda index, x: x)
    for nothing in (Drift(0.0, step=step), Drift((0.0, 0.0, 0.0), step=step)):
        x = started(eps, nothing)
        assert torch.equal(sampler(people.denoise, x, steps, after_update=per_step(nothing, steps)), plain)


@pytest.mark.parametrize("variant", ["V1", "V2", "V3"])
def test_training_without_drift_is_bit_identical_to_plain_training(variant):
    schedule, times = schedules.cosine(), torch.tensor([10, 900])
    z, eps = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4)
    x, target = training_pair(z, eps, *schedule.coefficients(times, z), "v", Drift(), variant)
    assert torch.equal(x, schedule.noised(z, eps, times))
    assert torch.equal(target, schedule.velocity(z, eps, times))


WRAPPERS = {"eps": epsilon_denoiser, "v": velocity_denoiser, "x0": clean_denoiser, "flow": flow_denoiser}
ERRORS = {
    ("V1", "eps"): lambda a, s: s / a,
    ("V2", "eps"): lambda a, s: 1 / a,
    ("V1", "v"): lambda a, s: a * s,
    ("V2", "v"): lambda a, s: a,
    ("V1", "flow"): lambda a, s: s,
    ("V2", "flow"): lambda a, s: 1.0,
}


@pytest.mark.parametrize("variant", ["V1", "V2", "V3"])
@pytest.mark.parametrize("prediction", WRAPPERS)
def test_only_the_variant_of_the_paper_keeps_the_clean_estimate(prediction, variant):
    """A network that predicts its target perfectly gives z back in V3, and z plus a known multiple of δ in others."""
    steps = schedules.rectified_flow(10) if prediction == "flow" else schedules.cosine().trailing(10)
    step = steps[4]
    z, eps, drift = noise(2, 3, (4, 4), 1), noise(2, 3, (4, 4), 2), Drift((0.1, -0.2, 0.3))
    alpha, sigma = (torch.full((2, 1, 1, 1), value).double() for value in (step.alpha, step.sigma))
    x, target = training_pair(z, eps, alpha, sigma, prediction, drift, variant)
    estimate = WRAPPERS[prediction](lambda x, times: target)(x, step)
    factor = ERRORS[variant, prediction](step.alpha, step.sigma) if (variant, prediction) in ERRORS else 0.0
    # α and σ of a schedule are float32, so α² + σ² = 1 holds to that precision.
    torch.testing.assert_close(estimate, drift.added_to(z, factor), atol=1e-6, rtol=1e-6)


def test_the_variants_shift_what_they_say():
    z, eps, drift = noise(2, 3, (4, 4), 1), noise(2, 3, (4, 4), 2), Drift(0.5)
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    pairs = {name: training_pair(z, eps, alpha, sigma, "eps", drift, name) for name in ("V1", "V2", "V3")}
    plain = alpha * z + sigma * eps
    torch.testing.assert_close(pairs["V1"][0] - plain, torch.full_like(z, 0.8 * 0.5))
    torch.testing.assert_close(pairs["V2"][0] - plain, torch.full_like(z, 0.5))
    assert torch.equal(pairs["V3"][0], pairs["V1"][0])
    assert torch.equal(pairs["V1"][1], eps)
    assert torch.equal(pairs["V2"][1], eps)
    assert torch.equal(pairs["V3"][1], eps + 0.5)


def drifted(people: Population, delta: float, variant: str, schedule: schedules.Schedule, count: int) -> Denoiser:
    """The denoiser of a network that predicts ε and was trained to the optimum with drift."""
    at = {step.time: step for step in schedule.trailing(count)[:-1]}

    def network(y: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        step = at[int(times[0])]
        x = y - delta * (1.0 if variant == "V2" else step.sigma)
        eps = (x - step.alpha * people.denoise(x, step)) / step.sigma
        return eps + (delta if variant == "V3" else 0.0)

    return epsilon_denoiser(network)


@pytest.mark.parametrize("delta", [-0.1, 0.1])
def test_a_model_trained_with_drift_draws_the_same_from_shifted_noise_in_v3_only(delta):
    """V3 is a change of variables. V1 and V2 are not: the same sampling overshoots by many times δ."""
    people, steps = population(), BRAIN.trailing(50)
    plain = channel_means(sampled(people, steps, Drift()))
    shifts = {}
    for variant in ("V1", "V2", "V3"):
        x = started(noise(1, 3, people.grid), Drift(delta))
        z = sample_ddim(drifted(people, delta, variant, BRAIN, 50), x, steps)
        shifts[variant] = float((channel_means(z) - plain).mean()) / delta
    # σ at the first time is not quite 1, and the rest of δ is amplified like any other.
    assert abs(shifts["V3"]) < 0.01
    assert shifts["V1"] > 20
    assert shifts["V2"] > 20


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("latent", LATENTS)
def test_the_gain_of_a_shifted_start_is_the_closed_form_where_signal_is_left_at_the_start(latent, count):
    schedule, grid = LATENTS[latent]
    people, steps = population(grid), schedule.trailing(count)
    expected = gain(people.spread, steps[0], people.positions)
    torch.testing.assert_close(measured(people, steps, Drift()), expected, atol=0, rtol=0.1 if count < 50 else 0.04)


def test_from_pure_noise_the_closed_form_is_the_limit_of_many_steps_only():
    """With zero terminal SNR and in rectified flow; elsewhere 20 steps come within 10 %."""
    people = population(spread=0.3)
    for steps_of in (schedules.cosine().trailing, schedules.rectified_flow):
        ratios = [
            float((measured(people, steps, Drift()) / gain(people.spread, steps[0], people.positions)).mean())
            for steps in (steps_of(20), steps_of(50), steps_of(1000))
        ]
        assert ratios[0] < 0.6
        assert ratios[1] < 0.8
        assert 0.97 < ratios[2] < 1


@pytest.mark.parametrize(
    "drift", [Drift(), Drift(start=False, step="literal"), Drift(start=True, step="normalised")], ids=str
)
@pytest.mark.parametrize("steps_of", [schedules.cosine().trailing, schedules.rectified_flow, BRAIN.leading])
def test_the_response_is_exact_for_any_steps_and_any_place(steps_of, drift):
    people, steps = population(spread=0.3), steps_of(20)
    torch.testing.assert_close(
        measured(people, steps, drift), response(drift, steps, people.spread, people.positions), atol=0, rtol=1e-8
    )


def test_the_response_of_any_sampler_is_what_it_does_to_a_shift():
    """Of DDIM it is the formula; DPM-Solver++ of as many steps comes closer to the limit."""
    people, steps = population(spread=0.3), schedules.cosine().trailing(20)
    found = {
        sampler: sampler_response(sampler, steps, people.spread, people.positions)
        for sampler in (sample_ddim, sample_dpmpp_2m)
    }
    formula = response(Drift(), steps, people.spread, people.positions)
    torch.testing.assert_close(found[sample_ddim], formula, atol=0, rtol=1e-8)
    x = noise(1, 3, people.grid)
    moved = sample_dpmpp_2m(people.denoise, started(x, Drift(0.01)), steps) - sample_dpmpp_2m(
        people.denoise, x, steps
    )
    torch.testing.assert_close(channel_means(moved)[0] / 0.01, found[sample_dpmpp_2m], atol=0, rtol=1e-6)
    limit = gain(people.spread, steps[0], people.positions)
    assert ((found[sample_dpmpp_2m] - limit).abs() < (formula - limit).abs()).all()


@pytest.mark.parametrize("latent", LATENTS)
def test_drift_per_step_does_not_depend_on_the_number_of_steps_once_normalised(latent):
    schedule, grid = LATENTS[latent]
    people = population(grid)
    change = {
        kind: {
            count: float(measured(people, schedule.trailing(count), Drift(start=False, step=kind)).mean())
            for count in COUNTS
        }
        for kind in ("literal", "normalised")
    }
    for count in COUNTS:
        tolerance = 0.15 if count < 50 else 0.06
        assert change["normalised"][count] == pytest.approx(change["normalised"][250], rel=tolerance)
    assert change["literal"][250] > 4 * change["literal"][50] > 8 * change["literal"][20]
    assert change["literal"][REFERENCE_STEPS] == change["normalised"][REFERENCE_STEPS]


def test_from_pure_noise_few_steps_weaken_the_normalised_drift_more():
    """By more than the 15 % of schedules that leave a signal at the start."""
    people = population(spread=0.3)
    for steps_of in (schedules.cosine().trailing, schedules.rectified_flow):
        few, many = (
            float(measured(people, steps_of(count), Drift(start=False, step="normalised")).mean())
            for count in (20, 250)
        )
        assert 0.75 < few / many < 0.85


def test_ancestral_sampling_from_pure_noise_forgets_a_shifted_start_but_not_drift_per_step():
    people, steps = population((6, 6, 6)), schedules.cosine().trailing(20)
    moved = {}
    for drift in (Drift(), Drift(0.1), Drift(0.1, start=False, step="normalised")):
        x = started(noise(1, 3, people.grid), drift)
        moved[drift] = channel_means(seeded_ddpm(people.denoise, x, steps, after_update=per_step(drift, steps)))
    plain, start, each = moved.values()
    assert torch.equal(start, plain)
    assert float((each - plain).min()) > 0.1


def test_the_leak_of_a_nonzero_terminal_signal_is_as_computed_and_drift_takes_it_back():
    people, steps = population(), STABLE_DIFFUSION.trailing(50)
    change = response(Drift(), steps, people.spread, people.positions)
    missing = leak(people.mean, steps[0], change)
    silent = torch.zeros(1, 3, *people.grid, dtype=torch.float64)
    z = sample_ddim(people.denoise, silent, steps)
    torch.testing.assert_close(channel_means(z)[0] - people.mean, missing, atol=1e-9, rtol=1e-9)
    assert float(missing[0]) < -people.spread[0]
    restoring = Drift(tuple((steps[0].alpha * people.mean).tolist()))
    z = sample_ddim(people.denoise, started(silent, restoring), steps)
    torch.testing.assert_close(channel_means(z)[0], people.mean, atol=1e-9, rtol=0)
    assert float(leak(people.mean, schedules.cosine().trailing(50)[0], change).abs().max()) == 0


@pytest.mark.parametrize("place", [Drift(), Drift(start=False, step="normalised")], ids=str)
@pytest.mark.parametrize("steps", [BRAIN.trailing(50), schedules.cosine().trailing(20)], ids=["leaky", "cosine"])
def test_auto_delta_meets_the_target_mean_in_every_channel(steps, place):
    people = population((8, 8, 8))
    target = torch.tensor([1.0, -0.9, 0.1]).double()
    generated = channel_means(sampled(people, steps, Drift(), count=16))
    delta = auto_delta(generated, target, response(place, steps, people.spread, people.positions))
    moved = sampled(people, steps, Drift(delta, place.start, place.step), count=16)
    torch.testing.assert_close(channel_means(moved).mean(0), target, atol=1e-9, rtol=0)


def test_auto_delta_without_samples_uses_training_mean_and_leak():
    people, steps = population(), BRAIN.trailing(50)
    target = people.mean + 0.2
    change = response(Drift(), steps, people.spread, people.positions)
    expected = people.mean + leak(people.mean, steps[0], change)
    delta = Drift(auto_delta(expected[None], target, change))
    z = sample_ddim(people.denoise, started(torch.zeros(1, 3, *people.grid).double(), delta), steps)
    torch.testing.assert_close(channel_means(z)[0], target, atol=1e-9, rtol=0)


def test_the_spread_that_counts_is_the_models_own_not_the_targets():
    """With a target twice as spread, a δ computed from the target's spread goes half of the way."""
    people, steps = population((8, 8, 8)), BRAIN.trailing(100)
    target, of_target = people.mean + 0.3, 2 * people.spread
    generated = channel_means(sampled(people, steps, Drift(), count=16))
    reached = []
    for spread in (people.spread, of_target):
        delta = Drift(auto_delta(generated, target, response(Drift(), steps, spread, people.positions)))
        moved = channel_means(sampled(people, steps, delta, count=16)).mean(0)
        reached.append(float(((moved - generated.mean(0)) / (target - generated.mean(0))).mean()))
    assert reached[0] == pytest.approx(1)
    assert reached[1] == pytest.approx(0.5, abs=0.05)


def test_the_spread_between_seeds_tells_the_response_of_an_unknown_model():
    people, steps = population((6, 6, 6)), schedules.cosine().trailing(20)
    generated = channel_means(sampled(people, steps, Drift(), count=400))
    estimate = math.sqrt(people.positions) * generated.std(0)
    torch.testing.assert_close(estimate, response(Drift(), steps, people.spread, people.positions), atol=0, rtol=0.15)


@pytest.mark.parametrize("place", [Drift(), Drift(start=False, step="literal")], ids=str)
def test_units_of_the_output_become_delta_and_back(place):
    people, steps = population(), schedules.cosine().trailing(20)
    units = torch.tensor([0.5, -1.0, 0.0]).double()
    change = response(place, steps, people.spread, people.positions)
    delta = to_delta(units, people.spread, change)
    torch.testing.assert_close(to_units(delta, people.spread, change), units)
    z = sampled(people, steps, Drift(tuple(delta.tolist()), place.start, place.step))
    moved = channel_means(z - sampled(people, steps, Drift()))[0]
    torch.testing.assert_close(moved, units * people.spread, atol=1e-9, rtol=0)


@pytest.mark.parametrize("planted", [-0.03, 0.0, 0.02])
def test_the_grid_search_finds_a_planted_drift(planted):
    people, steps = population(), BRAIN.trailing(5)
    change = response(Drift(), steps, people.spread, people.positions)
    # The leak would be found too: here the target lies where the model draws, plus the planted drift.
    offset = leak(people.mean, steps[0], change) + planted * change
    real = Population(people.mean + offset, people.spread, people.grid).draw(16, seed=5)
    grid = [round(0.01 * index, 2) for index in range(-4, 4)]
    curve = l1_curve(lambda delta: sampled(people, steps, Drift(delta), count=16), real, grid)
    assert curve.best == planted
    assert DriftCurve.model_validate_json(curve.model_dump_json()) == curve


def test_the_distance_sees_means_and_spreads():
    x = noise(50, 1, (3, 3))
    assert l1_distance(x, x) == 0
    assert l1_distance(x + 0.5, x) == pytest.approx(0.5)
    assert l1_distance(3 * (x - x.mean(0)), x - x.mean(0)) == pytest.approx(2 * float(x.std(0).mean()))
    with pytest.raises(BadInput, match="at least two"):
        l1_distance(x[:1], x)


def test_a_drift_per_channel_moves_its_channel_only():
    people, steps = population(), schedules.cosine().trailing(20)
    for drift in (Drift((0.0, 0.02, 0.0)), Drift((0.0, -0.02, 0.0), start=False, step="normalised")):
        moved = channel_means(sampled(people, steps, drift) - sampled(people, steps, Drift()))[0]
        assert moved[0] == moved[2] == 0
        assert moved[1] * drift.channels[1] > 0


def test_a_number_is_the_same_drift_in_all_channels():
    x = noise(2, 3, (4, 4))
    assert torch.equal(started(x, Drift(0.1)), started(x, Drift((0.1, 0.1, 0.1))))
    assert torch.equal(started(x, Drift(0.1, start=False)), x)


def test_an_inversion_with_the_drift_taken_back_returns_to_the_noise():
    people, steps = population((6, 6, 6)), schedules.cosine().trailing(20)
    drift = Drift((0.05, -0.05, 0.02), step="normalised")
    start = started(noise(1, 3, people.grid), drift)
    z = sample_ddim(people.denoise, start, steps, after_update=per_step(drift, steps))
    x = invert_ddim(people.denoise, z, steps, before_update=per_step(-drift, steps), iterations=30)
    assert float((sample_ddim(people.denoise, x, steps, after_update=per_step(drift, steps)) - z).abs().max()) < 1e-6
    assert float((channel_means(x) - channel_means(start)).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Drift(math.nan), "not a number"),
        (lambda: Drift(()), "not a number"),
        (lambda: Drift(0.1, step="twice"), "Drift per step"),
        (lambda: Drift((0.1, 0.2)).added_to(torch.zeros(1, 3, 2, 2)), "2 channels and the latent 3"),
    ],
)
def test_a_drift_that_cannot_be_is_refused_with_a_sentence(make, sentence):
    with pytest.raises(BadInput, match=sentence):
        make()
