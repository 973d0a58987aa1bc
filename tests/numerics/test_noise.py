"""Rounding is distinguished from differences between images."""

from __future__ import annotations

import torch

from clip_lens_plugin.numerics.noise import computed_noise, least_variance, psd_covariance, stored_noise


def test_noise_follows_the_dtype():
    sizes = [computed_noise(dtype) for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)]
    assert sizes == sorted(sizes)
    assert stored_noise(torch.float16) < computed_noise(torch.float16)
    values = torch.rand(10_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    for dtype in (torch.float32, torch.float16):
        error = (values - values.to(dtype).double()).square().mean()
        assert 0 < float(error) < least_variance(float(values.square().mean()), stored_noise(dtype))


def test_a_covariance_has_no_negative_variance_and_keeps_what_is_no_rounding():
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(200, 6, dtype=torch.float64, generator=generator) * 10.0 ** torch.arange(0, -6, -1) + 50.0
    y[:, 3] = 7.0
    y[:, 4] = y[:, 0]
    mean, second = y.mean(0), y.T @ y / len(y)
    found = psd_covariance(second, mean, computed_noise(torch.float32))
    assert float(torch.linalg.eigvalsh(found)[0]) > -1e-15
    exact = torch.cov(y.T, correction=0)
    torch.testing.assert_close(found[:3, :3], exact[:3, :3], rtol=1e-6, atol=1e-9)
    assert float(found[3].abs().max()) < 1e-9
    mean = torch.tensor([3.0, 4.0], dtype=torch.float64)
    second = torch.outer(mean, mean) - 1e-15 * torch.eye(2, dtype=torch.float64)
    assert float(torch.linalg.eigvalsh(second - torch.outer(mean, mean))[0]) < 0
    assert torch.equal(psd_covariance(second, mean, 1e-15), torch.zeros(2, 2, dtype=torch.float64))


def test_the_covariance_of_equal_rows_is_zero():
    y = torch.full((90, 4), 0.1, dtype=torch.float64) * torch.arange(1, 5)
    found = psd_covariance(y.T @ y / 90, y.mean(0), computed_noise(torch.float32))
    assert torch.equal(found, torch.zeros(4, 4, dtype=torch.float64))
    nothing = psd_covariance(torch.zeros(2, 2).double(), torch.zeros(2).double(), 1e-6)
    assert torch.equal(nothing, torch.zeros(2, 2).double())
