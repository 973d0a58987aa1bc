"""Products are exact inside, whatever the user set, and that setting is there again afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from clip_lens_plugin.numerics import precision
from clip_lens_plugin.numerics.precision import full_precision, rounding

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SWITCHES = (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None), torch.backends)
newer = pytest.mark.skipif(
    precision._switches()[0] is None, reason="this torch has torch.set_float32_matmul_precision alone"
)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    if precision._switches()[0] is not None:
        for switch in SWITCHES:
            switch.fp32_precision = "none"


def set_legacy() -> None:
    torch.set_float32_matmul_precision("high")


def set_medium() -> None:
    torch.set_float32_matmul_precision("medium")


def set_allowed() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True


def set_newer() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def set_all() -> None:
    torch.backends.fp32_precision = "tf32"


def seen() -> dict[str, object]:
    """What each of torch's switches says, or that it refuses to."""
    found: dict[str, object] = {}
    for name, read in {
        "legacy": torch.get_float32_matmul_precision,
        "allowed": lambda: torch.backends.cuda.matmul.allow_tf32,
        **{str(i): lambda switch=switch: getattr(switch, "fp32_precision", None) for i, switch in enumerate(SWITCHES)},
    }.items():
        try:
            found[name] = read()
        except RuntimeError as refusal:
            found[name] = str(refusal)[:60]
    return found


every_way = pytest.mark.parametrize(
    "choose",
    [set_legacy, set_medium, set_allowed, pytest.param(set_newer, marks=newer), pytest.param(set_all, marks=newer)],
)


@every_way
def test_inside_every_switch_says_exact_and_outside_what_the_user_chose(choose) -> None:
    choose()
    before = seen()
    with full_precision():
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cuda.matmul.allow_tf32 is False
        inside = seen()
        with full_precision():
            assert seen() == inside
        assert seen() == inside
    assert seen() == before
    with pytest.raises(KeyError), full_precision():
        raise KeyError
    assert seen() == before


@newer
def test_what_followed_the_default_follows_it_afterwards() -> None:
    set_all()
    with full_precision():
        pass
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_nothing_is_touched_where_products_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda value: pytest.fail("touched"))
    with full_precision():
        pass


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stops_inside(dtype: torch.dtype) -> None:
    a = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))

    @full_precision()
    def product() -> torch.Tensor:
        return a @ a

    with torch.autocast("cpu", dtype):
        assert product().dtype == torch.float32
        assert (a @ a).dtype == dtype


@every_way
def test_rounding_is_that_of_the_models_runs(choose) -> None:
    assert rounding(torch.float32, CUDA) == torch.float32
    choose()
    for _ in range(2):
        assert rounding(torch.float32, CUDA) == torch.float16
        assert rounding(torch.float64, CUDA) == torch.float64
        assert rounding(torch.bfloat16, CUDA) == torch.bfloat16
    with full_precision(), full_precision():
        assert rounding(torch.float32, CUDA) == torch.float16
    assert rounding(torch.float32, CUDA) == torch.float16


@pytest.mark.parametrize("choose", [set_legacy, set_medium])
@pytest.mark.parametrize("asked_inside", [False, True])
def test_rounding_of_this_processor_is_measured(choose, asked_inside: bool) -> None:
    """Against the error of a product of noise."""
    choose()
    precision._processor_rounding.cache_clear()
    if asked_inside:
        with full_precision():
            rounded_to = rounding(torch.float32, CPU)
    else:
        rounded_to = rounding(torch.float32, CPU)
    a, b = torch.randn(2, 300, 300, generator=torch.Generator().manual_seed(0))
    exact = a.double() @ b.double()
    error = float(((a @ b).double() - exact).norm() / exact.norm())
    bounds = {torch.float32: (0, 1e-5), torch.float16: (1e-5, 1e-3), torch.bfloat16: (1e-3, 1e-1)}
    assert bounds[rounded_to][0] <= error < bounds[rounded_to][1]


def test_torch_without_the_newer_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    set_legacy()
    before = seen()
    monkeypatch.setattr(precision, "_switches", lambda: (None, None))
    assert rounding(torch.float32, CUDA) == torch.float16
    with full_precision():
        assert torch.get_float32_matmul_precision() == "highest"
        assert rounding(torch.float32, CUDA) == torch.float16
    assert seen() == before
