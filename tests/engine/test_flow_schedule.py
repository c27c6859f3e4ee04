"""Sigmas of flow matching against diffusers' scheduler, and a level that is handed over stays what it is."""

import json

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from in2n_blender.engine.diffusion.flow_schedule import FlowSchedule, FlowSettings
from in2n_blender.engine.diffusion.reading import UnfitFiles

CONFIGS = {
    "fixed": {"shift": 3.0},
    "exponential": {"shift": 3.0, "use_dynamic_shifting": True},
    "linear": {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    "to a terminal": {"use_dynamic_shifting": True, "shift_terminal": 0.02, "max_shift": 0.9},
}


@pytest.fixture(params=CONFIGS)
def scheduler(request):
    return FlowMatchEulerDiscreteScheduler(**CONFIGS[request.param])


def settings_of(scheduler, folder) -> FlowSettings:
    scheduler.save_pretrained(folder)
    return FlowSettings.from_folder(folder)


def test_sigmas_from_pure_noise_are_those_of_diffusers(scheduler, tmp_path):
    settings = settings_of(scheduler, tmp_path)
    for tokens in (256, 1000, 4096):
        mu = settings.mu(tokens)
        assert mu == pytest.approx(0.5 + (scheduler.config.max_shift - 0.5) * (tokens - 256) / 3840)
        for steps in (4, 8, 28):
            scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
            sigmas = settings.schedule(mu).timesteps(1.0, steps)
            np.testing.assert_allclose(sigmas, scheduler.sigmas[:-1].numpy(), atol=1e-6)


def test_a_level_is_the_first_sigma_whatever_the_shift(scheduler, tmp_path):
    schedule = settings_of(scheduler, tmp_path).schedule(1.1)
    for level in (0.02, 0.3, 0.75, 1.0):
        for steps in (1, 4, 20):
            sigmas = schedule.timesteps(level, steps)
            assert len(sigmas) == steps and sigmas[0] == level
            assert (np.diff(sigmas) < 0).all() and sigmas[-1] > 0
    for level, steps in ((0.0, 4), (1.1, 4), (0.5, 0)):
        with pytest.raises(ValueError):
            schedule.timesteps(level, steps)


def test_steps_are_eulers_and_with_the_true_velocity_end_at_the_clean_latent(scheduler, tmp_path):
    schedule = settings_of(scheduler, tmp_path).schedule(1.1)
    clean, noise = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigmas = schedule.timesteps(0.7, 5).tolist()
    latent = schedule.add_noise(clean, noise, [0.7], sigmas[:1])
    torch.testing.assert_close(latent, 0.3 * clean + 0.7 * noise)
    for now, then in zip(sigmas, [*sigmas[1:], None]):
        velocity = noise - clean + 0.1 * latent  # not the true one: Euler is told from others
        stepped = schedule.step(velocity, latent, [now], [then])
        torch.testing.assert_close(stepped, latent + ((then or 0.0) - now) * velocity)
        latent = schedule.step(noise - clean, latent, [now], [then])
    torch.testing.assert_close(latent, clean)
    assert schedule.noise_share(0.5) == pytest.approx(0.5)


NO_FLOW, NO_NUMBER, NO_SHIFT = "not one of flow matching", "shift is no number", "shift is no shift"


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ({"_class_name": "EulerDiscreteScheduler"}, NO_FLOW),
        ([], NO_FLOW),
        ({"use_karras_sigmas": True}, "wants use_karras_sigmas"),
        ({"stochastic_sampling": True}, "wants stochastic_sampling"),
        ({"shift": 0}, NO_SHIFT),
        ({"shift": -1.0}, NO_SHIFT),
        ({"base_shift": "x"}, NO_NUMBER),
        ({"max_shift": None}, NO_NUMBER),
        ({"max_shift": float("inf")}, NO_NUMBER),
        ({"shift_terminal": 1}, NO_SHIFT),
        ({"shift_terminal": -0.1}, NO_SHIFT),
    ],
    ids=str,
)
def test_schedulers_of_another_kind_are_refused(tmp_path, stated, reason):
    known = {"_class_name": FlowMatchEulerDiscreteScheduler.__name__}
    text = json.dumps({**known, **stated} if isinstance(stated, dict) else stated)
    (tmp_path / "scheduler_config.json").write_text(text)
    with pytest.raises(UnfitFiles, match=reason):
        FlowSettings.from_folder(tmp_path)


@pytest.mark.parametrize("terminal", [None, 0, 0.99])
def test_a_terminal_may_be_anything_below_pure_noise(tmp_path, terminal):
    settings = settings_of(FlowMatchEulerDiscreteScheduler(shift_terminal=terminal), tmp_path)
    assert settings.terminal == terminal


def test_what_is_known_of_the_image_says_how_much_mu_counts():
    """By each of three ways of shifting: not at all, as its exponential, as it is."""
    lengths = ((256, 4096), (0.5, 1.15))
    shift = lambda dynamic: FlowSettings(3.0, dynamic, None, lengths).schedule(0.7).shift
    assert [shift(None), shift("exponential"), shift("linear")] == pytest.approx([3.0, np.exp(0.7), 0.7])


def test_the_last_sigma_is_stretched_to_the_terminals_share_of_the_level():
    schedule = FlowSchedule(3.0, terminal=0.1)
    for level in (1.0, 0.4):
        sigmas, free = schedule.timesteps(level, 5), FlowSchedule(3.0).timesteps(level, 5)
        assert sigmas[-1] == pytest.approx(0.1 * level)
        # Each keeps its place between the first and the last.
        place = lambda values: (values - values[-1]) / (values[0] - values[-1])
        np.testing.assert_allclose(place(sigmas), place(free), atol=1e-12)
    with np.errstate(all="raise"):
        assert [schedule.timesteps(level, 1).tolist() for level in (1.0, 0.4)] == [[1.0], [0.4]], "no path to stretch"
