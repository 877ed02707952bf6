"""Schedules, samplers and guidance on a Gaussian whose best denoiser is known."""

from __future__ import annotations

import itertools

import pytest
import torch

from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.guidance import classifier_free
from BrainGenLib.diffusion.samplers import sample_ddim, sample_dpmpp_2m, velocity_denoiser
from BrainGenLib.diffusion.schedules import CLEAN, Step

MEAN, SPREAD = 3.0, 0.5
SCHEDULES = [schedules.cosine(), schedules.scaled_linear()]
SAMPLERS = [sample_ddim, sample_dpmpp_2m]


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
    z = sampler(gaussian_denoiser, noise, schedule.trailing(100))
    assert float(z.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(z.std()) == pytest.approx(SPREAD, rel=0.05)


def test_the_second_order_sampler_is_closer_to_the_exact_solution_at_few_steps():
    noise = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    steps = schedules.cosine().trailing(12)
    # The probability-flow ODE of a Gaussian maps quantile to quantile.
    exact = MEAN + SPREAD * noise
    errors = [float((sampler(gaussian_denoiser, noise, steps) - exact).abs().mean()) for sampler in SAMPLERS]
    assert errors[1] < errors[0]


def test_velocity_and_clean_estimate_say_the_same():
    schedule = schedules.cosine()
    z, noise = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    times = torch.tensor([10, 10, 10, 10])
    x = schedule.noised(z, noise, times)
    denoise = velocity_denoiser(lambda x, times: schedule.velocity(z, noise, times))
    torch.testing.assert_close(denoise(x, schedule.at(10)), z, atol=1e-5, rtol=1e-5)


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
