"""Schedules, samplers and guidance on a Gaussian whose best denoiser is known."""

from __future__ import annotations

import itertools

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler
from monai.networks.schedulers.rectified_flow import timestep_transform

from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.guidance import classifier_free
from BrainGenLib.diffusion.samplers import (
    clean_denoiser,
    epsilon_denoiser,
    flow_denoiser,
    invert_ddim,
    nothing,
    sample_ddim,
    sample_ddpm,
    sample_dpmpp_2m,
    unchanged,
    velocity_denoiser,
)
from BrainGenLib.diffusion.schedules import CLEAN, Step

MEAN, SPREAD = 3.0, 0.5
SCHEDULES = [schedules.cosine(), schedules.scaled_linear()]
UK_BIOBANK = schedules.scaled_linear(beta_end=0.0205, zero_terminal_snr=False)
MONAI_UK_BIOBANK = {"schedule": "scaled_linear_beta", "beta_start": 0.0015, "beta_end": 0.0205, "clip_sample": False}


def seeded_ddpm(denoiser, x, steps, callback=nothing, after_update=unchanged):
    generator = torch.Generator().manual_seed(1)
    return sample_ddpm(denoiser, x, steps, callback, after_update, generator=generator)


SAMPLERS = [sample_ddim, sample_dpmpp_2m, seeded_ddpm]


def gaussian_denoiser(x: torch.Tensor, step: Step) -> torch.Tensor:
    """E[z | x] for z ~ N(MEAN, SPREAD²)."""
    gain = step.alpha * SPREAD**2 / (step.alpha**2 * SPREAD**2 + step.sigma**2)
    return MEAN + gain * (x - step.alpha * MEAN)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_end_in_pure_noise_and_keep_variance(schedule):
    assert float(schedule.alpha[-1]) == 0
    assert torch.all(schedule.alpha[1:] < schedule.alpha[:-1])
    torch.testing.assert_close(schedule.alpha**2 + schedule.sigma**2, torch.ones(len(schedule)))


@pytest.mark.parametrize("count", [2, 15, 30, 300])
def test_trailing_steps_start_at_pure_noise_and_end_clean(count):
    steps = schedules.cosine().trailing(count)
    assert len(steps) == count + 1
    assert steps[0].time == 999
    assert steps[0].alpha == 0
    assert steps[-1] == CLEAN
    assert all(after.time < now.time for now, after in itertools.pairwise(steps[:-1]))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_turn_noise_into_the_data_distribution(sampler, schedule):
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    z = sampler(gaussian_denoiser, noise, schedule.trailing(1000 if sampler is seeded_ddpm else 100))
    assert float(z.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(z.std()) == pytest.approx(SPREAD, rel=0.05)


def test_the_second_order_sampler_is_closer_to_the_exact_solution_at_few_steps():
    noise = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    steps = schedules.cosine().trailing(12)
    # The probability-flow ODE of a Gaussian maps quantile to quantile.
    exact = MEAN + SPREAD * noise
    samplers = [sample_ddim, sample_dpmpp_2m]
    errors = [float((sampler(gaussian_denoiser, noise, steps) - exact).abs().mean()) for sampler in samplers]
    assert errors[1] < errors[0]


def test_every_prediction_becomes_the_clean_estimate():
    schedule = schedules.cosine()
    z, noise = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    times = torch.tensor([10, 10, 10, 10])
    x, step = schedule.noised(z, noise, times), schedule.at(10)
    velocity = velocity_denoiser(lambda x, times: schedule.velocity(z, noise, times))
    for denoise in (velocity, epsilon_denoiser(lambda x, times: noise), clean_denoiser(lambda x, times: z)):
        torch.testing.assert_close(denoise(x, step), z, atol=1e-5, rtol=1e-5)
    half = schedules.rectified_flow(2)[1]
    flow = flow_denoiser(lambda x, times: z - noise)
    torch.testing.assert_close(flow(half.alpha * z + half.sigma * noise, half), z)


def test_a_network_that_predicts_noise_is_refused_at_pure_noise():
    with pytest.raises(ValueError, match="cannot start from pure noise"):
        epsilon_denoiser(lambda x, times: x)(torch.zeros(1, 1), schedules.cosine().trailing(5)[0])


def test_networks_are_told_whole_times_as_indices_and_others_as_they_are():
    told = []

    def network(x, times):
        told.append(times)
        return x

    velocity_denoiser(network)(torch.zeros(2, 1), schedules.cosine().at(10))
    flow_denoiser(network)(torch.zeros(2, 1), schedules.rectified_flow(8)[1])
    torch.testing.assert_close(told, [torch.tensor([10, 10]), torch.tensor([875.0, 875.0])])


def test_min_snr_weight_follows_its_definition():
    schedule = schedules.cosine()
    times = torch.tensor([100, 500, 900])
    snr = schedule.alpha[times] ** 2 / schedule.sigma[times] ** 2
    torch.testing.assert_close(schedule.min_snr_weight(times), snr.clamp_max(5) / (snr + 1))


def test_guidance_extrapolates_and_skips_what_it_does_not_need():
    step = Step(0, 1.0, 0.0)
    x = torch.zeros(1)

    def fails(x, step):
        raise AssertionError("this denoiser is not needed")

    guided = classifier_free(lambda x, step: torch.ones(1), lambda x, step: torch.zeros(1), 3.0)
    assert float(guided(x, step)) == 3
    assert float(classifier_free(lambda x, step: torch.ones(1), fails, 1.0)(x, step)) == 1
    assert float(classifier_free(fails, lambda x, step: torch.zeros(1), 0.0)(x, step)) == 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_callback_sees_every_step_and_can_stop(sampler):
    seen = []

    def callback(index, x, z):
        seen.append(index)
        if index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sampler(gaussian_denoiser, torch.zeros(2), schedules.cosine().trailing(5), callback)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_acts_after_an_update_is_seen_by_the_next(sampler):
    seen = []

    def watch(index, x, z):
        seen.append(float(x[0]))

    steps = schedules.cosine().trailing(4)
    result = sampler(gaussian_denoiser, torch.zeros(2), steps, watch, lambda index, x: torch.full_like(x, index))
    assert seen == [0, 0, 1, 2]
    assert torch.equal(result, torch.full((2,), 3.0))


def network(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Stands for a U-Net: it is not linear, and looks at the time."""
    return torch.sin(x) + x * times.view(-1, 1, 1) / 2000


def start(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_a_schedule_that_is_not_rescaled_is_that_of_monai():
    theirs = DDIMScheduler(1000, **MONAI_UK_BIOBANK)
    torch.testing.assert_close(UK_BIOBANK.alpha**2, theirs.alphas_cumprod, atol=1e-7, rtol=1e-4)
    assert float(UK_BIOBANK.alpha[-1]) == pytest.approx(0.00984, abs=1e-5)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize(
    ("prediction", "wrapper"), [("epsilon", epsilon_denoiser), ("v_prediction", velocity_denoiser)]
)
def test_ddim_takes_the_steps_of_monai(prediction, wrapper, spacing):
    theirs = DDIMScheduler(1000, prediction_type=prediction, **MONAI_UK_BIOBANK)
    theirs.set_timesteps(50)
    steps = {"trailing": UK_BIOBANK.trailing, "leading": UK_BIOBANK.leading}[spacing](50)
    for now, after in itertools.pairwise(steps):
        expected, _ = theirs.step(network(start(), torch.full((2,), now.time)), now.time, start())
        # The first steps divide by an α of 0.01, which amplifies rounding.
        torch.testing.assert_close(
            sample_ddim(wrapper(network), start(), [now, after]), expected, atol=3e-4, rtol=3e-4
        )


@pytest.mark.parametrize("time", [999, 500, 1, 0])
def test_ddpm_takes_the_steps_of_monai(time):
    theirs = DDPMScheduler(1000, **MONAI_UK_BIOBANK)
    expected, _ = theirs.step(
        network(start(), torch.full((2,), time)), time, start(), torch.Generator().manual_seed(1)
    )
    steps = [UK_BIOBANK.at(time), UK_BIOBANK.at(time - 1) if time else CLEAN]
    found = sample_ddpm(epsilon_denoiser(network), start(), steps, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=3e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddpm_keeps_mean_and_variance_of_the_noised_data_along_the_way(schedule):
    """At every time x_t has the mean α·m and the variance α²s² + σ², not only at the end."""
    steps, worst = schedule.trailing(1000), [0.0, 0.0]

    def check(index, x, z):
        step = steps[index]
        variance = step.alpha**2 * SPREAD**2 + step.sigma**2
        worst[0] = max(worst[0], abs(float(x.mean()) - step.alpha * MEAN) / variance**0.5)
        worst[1] = max(worst[1], abs(float(x.var()) / variance - 1))

    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    seeded_ddpm(gaussian_denoiser, noise, steps, check)
    assert worst[0] < 0.03
    assert worst[1] < 0.05


def test_ddpm_varies_less_in_fewer_steps():
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    spreads = [
        float(seeded_ddpm(gaussian_denoiser, noise, schedules.cosine().trailing(n)).std()) for n in (5, 20, 80)
    ]
    assert spreads[0] < spreads[1] < spreads[2] < SPREAD


def test_ddpm_draws_the_same_for_a_seed_and_another_for_another():
    steps, x = schedules.cosine().trailing(5), torch.zeros(100)
    first, again, other = (
        sample_ddpm(gaussian_denoiser, x, steps, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("shift", [1.0, 2.4])
def test_ddim_along_rectified_flow_is_euler(shift):
    steps = schedules.rectified_flow(30, shift=shift)
    x = start(torch.float64)
    for now, after in itertools.pairwise(steps):
        x = x + network(x, torch.full((2,), now.time)) * (now.time - after.time) / 1000
    torch.testing.assert_close(sample_ddim(flow_denoiser(network), start(torch.float64), steps), x)


def test_rectified_flow_is_monais_where_its_times_are_whole():
    """MONAI's step cuts the next time to a whole number, so only such times can be compared."""
    theirs = RFlowScheduler(1000, use_discrete_timesteps=False)
    theirs.set_timesteps(20)
    steps = schedules.rectified_flow(20)
    assert [step.time for step in steps[:-1]] == theirs.timesteps.tolist()
    x = start(torch.float64)
    for now, after in itertools.pairwise(steps):
        x, _ = theirs.step(network(x, torch.full((2,), now.time)), now.time, x, after.time)
        assert float(after.time).is_integer()
    torch.testing.assert_close(sample_ddim(flow_denoiser(network), start(torch.float64), steps), x)


def test_the_shift_of_rectified_flow_is_monais_transform_of_times():
    positions = 64 * 64 * 32
    steps = schedules.rectified_flow(30, shift=(positions / 32**3) ** (1 / 3))
    times = [timestep_transform(1000 * (1 - index / 30), positions) for index in range(30)]
    assert [step.time for step in steps] == pytest.approx([*times, 0])
    assert steps[-1] == CLEAN


def test_leading_steps_are_those_of_monai_before_1_6():
    steps = UK_BIOBANK.leading(30)
    assert [step.time for step in steps[:-1]] == [33 * index for index in reversed(range(30))]
    assert steps[-1] == CLEAN


def test_an_inversion_update_without_iterations_is_monais_reversed_step():
    theirs = DDIMScheduler(1000, **MONAI_UK_BIOBANK)
    theirs.set_timesteps(50)
    expected, _ = theirs.reversed_step(network(start(), torch.tensor([479, 479])), 479, start())
    found = invert_ddim(epsilon_denoiser(network), start(), [UK_BIOBANK.at(499), UK_BIOBANK.at(479)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def round_trips(denoiser, z, steps):
    """Greatest error of inversion, then sampling, with 0, 5 and 40 iterations a step."""
    return [
        float((sample_ddim(denoiser, invert_ddim(denoiser, z, steps, iterations=count), steps) - z).abs().max())
        for count in (0, 5, 40)
    ]


@pytest.mark.parametrize(
    "steps",
    [schedules.cosine().trailing(50), UK_BIOBANK.trailing(50), schedules.rectified_flow(30, shift=2.0)],
    ids=["cosine", "UK Biobank", "rectified flow"],
)
@pytest.mark.parametrize("spread", [0.5, 1.0, 30.0])
def test_inversion_then_sampling_returns_the_input(spread, steps):
    """For Gaussian data, also of a mode that varies far more than noise, as the mean of a large latent does."""

    def denoiser(x, step):
        gain = step.alpha * spread**2 / (step.alpha**2 * spread**2 + step.sigma**2)
        return MEAN + gain * (x - step.alpha * MEAN)

    z = MEAN + spread * torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain, some, many = round_trips(denoiser, z, steps)
    assert plain > 0.03 * spread
    assert some < 0.01 * spread
    assert many < 1e-9 * spread


def test_inversion_returns_data_that_are_not_gaussian():
    """Two modes at ±1: the best denoiser bends, most where it must choose between them."""
    spread = 0.3

    def denoiser(x, step):
        variance = step.alpha**2 * spread**2 + step.sigma**2
        centre = torch.tanh(step.alpha * x / variance)
        return centre + step.alpha * spread**2 / variance * (x - step.alpha * centre)

    generator = torch.Generator().manual_seed(0)
    mode = torch.randn(500, generator=generator, dtype=torch.float64).sign()
    z = mode + spread * torch.randn(500, generator=generator, dtype=torch.float64)
    plain, some, many = round_trips(denoiser, z, schedules.cosine().trailing(50))
    assert plain > 0.03
    assert some < 0.01
    assert many < 1e-9


def test_inversion_reports_every_update_and_can_be_stopped():
    seen = []

    def callback(index, x, z):
        seen.append(index)
        if index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        invert_ddim(gaussian_denoiser, torch.zeros(2), schedules.cosine().trailing(5), callback)
    assert seen == [4, 3, 2, 1]
