"""The model that a command works on: its options, the same for every command, and how it is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer
from rich.console import Console

from clip_lens_plugin.cli.given.options import DeviceOption, ModelOption, PretrainedOption, check_device
from clip_lens_plugin.cli.printing import say

if TYPE_CHECKING:
    import torch

    from clip_lens_plugin.model.hooked_clip import HookedCLIP

Channels = tuple[float, float, float]


def _option(name: str, text: str, **more: Any) -> Any:
    return typer.Option(f"--{name}", help=text, show_default=False, **more)


@dataclass(frozen=True)
class ModelChoice:
    """What was said on the command line about the model; see ``HookedCLIP.from_pretrained`` for each."""

    model: ModelOption = None
    pretrained: PretrainedOption = None
    checkpoint: Annotated[
        Path | None,
        _option("checkpoint", "File with the weights; beside a tag in --pretrained, which then gives settings alone."),
    ] = None
    quick_gelu: Annotated[bool, _option("force-quick-gelu", "QuickGELU, whatever the tag or the name says.")] = False
    image_size: Annotated[
        str | None, _option("force-image-size", "In pixels: 336, or HEIGHTxWIDTH.", metavar="SIZE")
    ] = None
    image_mean: Annotated[
        Channels | None, _option("image-mean", "Mean of red, green and blue, pixels between 0 and 1.", metavar="R G B")
    ] = None
    image_std: Annotated[Channels | None, _option("image-std", "Deviation of the same.", metavar="R G B")] = None
    image_interpolation: Annotated[
        Literal["bicubic", "bilinear"] | None,
        _option("image-interpolation", "Filter of the resize: bicubic or bilinear.", metavar="FILTER"),
    ] = None
    image_resize_mode: Annotated[
        Literal["shortest", "longest", "squash"] | None,
        _option(
            "image-resize-mode",
            "shortest (that edge to size, the centre cut out), longest (padded) or squash.",
            metavar="MODE",
        ),
    ] = None
    tokenizer: Annotated[
        Path | None, _option("tokenizer", "Folder of a Hugging Face tokenizer, where the model's own is out of reach.")
    ] = None
    device: DeviceOption = None

    def load(
        self,
        console: Console,
        dtype: torch.dtype | None = None,
        own_device: str | torch.device | None = None,
        said_before: bool = False,
    ) -> HookedCLIP:
        """The model; what there is to note of its files is one line each.

        Args:
            console: of messages.
            dtype: of the weights.
            own_device: where no device was chosen.
            said_before: whether what there is to note was said when a store was made.

        Raises:
            ModelNotFoundError, UnsupportedTowerError, ValueError: see ``HookedCLIP.from_pretrained``.
            ValueError: if the device cannot be used, or has no memory for the model.
        """
        import torch

        from clip_lens_plugin.model.hooked_clip import HookedCLIP
        from clip_lens_plugin.model.loading import Options

        device = own_device if self.device is None else self.device
        check_device(device if device is None else str(device))
        name = self.model or "scenes"
        options = Options.checked(
            checkpoint=self.checkpoint,
            force_quick_gelu=self.quick_gelu or None,
            force_image_size=_size(self.image_size),
            image_mean=self.image_mean,
            image_std=self.image_std,
            image_interpolation=self.image_interpolation,
            image_resize_mode=self.image_resize_mode,
            tokenizer=self.tokenizer,
        )
        try:
            model = HookedCLIP.from_options(name, self.pretrained, device, dtype, options)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"The device has no memory for {name}: {str(error).splitlines()[0]} Try --device cpu."
            ) from error
        for note in () if said_before or model.origin is None else model.origin.notes:
            say(console, f"note: {note}")
        return model

    def typed(self) -> list[str]:
        """What was said, as it is typed, without the device, which may be another one next time."""
        words: list[str] = []
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "device" and value not in (None, False):
                words.append(_OPTIONS[each.name])
                words += [] if value is True else map(str, value if isinstance(value, tuple) else [value])
        return words


_OPTIONS: dict[str, str] = {
    name: hint.__metadata__[0].default  # In an Annotated the first string of typer.Option is the option's name.
    for name, hint in get_type_hints(ModelChoice, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
"""Each option as it is typed."""


def _size(given: str | None) -> list[int] | None:
    if given is None:
        return None
    if not re.fullmatch(r"\d+(x\d+)?", given):
        raise ValueError(f"--force-image-size is a number of pixels or HEIGHTxWIDTH, such as 336, got {given!r}.")
    return [int(part) for part in given.split("x")]
