"""The text tower beside the image tower: embeddings of texts, what they depend on, and CLIP's logit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.adapters.checks.behaviour import behaviour_digest, has_forward_hooks, word_sum
from clip_lens_plugin.adapters.checks.seen import settings_of
from clip_lens_plugin.adapters.text.logits import logit_bias_of, logit_scale_of
from clip_lens_plugin.adapters.text.tokenizers import tokenizer_state
from clip_lens_plugin.arguments import refuse_half_characters
from clip_lens_plugin.layers.config import HookedCLIPConfig
from clip_lens_plugin.model.identity.probes import EMBEDDED_TEXTS, PROBE_TEXTS, token_digest
from clip_lens_plugin.model.property_errors import NotAvailableError
from clip_lens_plugin.model.text.unseen_texts import UnseenTexts, unseen

TEXT_BATCH = 128
OnProgress = Callable[[int, int], object]


class TextSide:
    """Texts of a model with ``clip`` and ``tokenizer``."""

    clip: Any
    cfg: HookedCLIPConfig
    tokenizer: Callable[[list[str]], Tensor] | None
    check_holder: Callable[[], None]

    def encode_text(
        self,
        texts: str | Sequence[str],
        normalize: bool = True,
        on_progress: OnProgress = lambda done, total: None,
    ) -> Float[Tensor, "t e"]:
        """Text embeddings in the weights' dtype; no gradients.

        A Python warning says how many texts are cut at the text tower's length, or lost in the tokenizer's cleaning.

        Args:
            texts: one or more.
            normalize: make them unit vectors.
            on_progress: called with (texts done, texts in all) after each batch.

        Raises:
            ValueError: if there is no tokenizer or text tower, no text, or what is no text; or if an embedding is NaN
                or infinite.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        embeddings, unseen_texts = self.encoded(texts, normalize, on_progress)
        unseen_texts.warn(texts)
        return embeddings

    def encoded(
        self, texts: list[str], normalize: bool = True, on_progress: OnProgress = lambda done, total: None
    ) -> tuple[Float[Tensor, "t e"], UnseenTexts]:
        """What :meth:`encode_text` gives, and which texts the tower did not see whole, without a warning.

        Args:
            texts, normalize, on_progress: as there.

        Raises:
            ValueError: as there.
        """
        tokenizer = self._required_tokenizer()
        if not texts:
            raise ValueError("encode_text was given no text; give one or more.")
        wrong = [each for each in texts if not isinstance(each, str)]
        if wrong:
            raise ValueError(f"encode_text takes texts, got {wrong[0]!r:.60} of type {type(wrong[0]).__name__}.")
        refuse_half_characters("encode_text", texts)
        parts, found = [], UnseenTexts()
        with torch.no_grad():
            for start in range(0, len(texts), TEXT_BATCH):
                part = texts[start : start + TEXT_BATCH]
                ids = tokenizer(part)
                self._refuse_image_tower_alone()  # After a tokenizer that is none has said why.
                found.add(unseen(tokenizer, part, ids), start)
                parts.append(self.clip.encode_text(ids.to(self.cfg.device), normalize=normalize))
                on_progress(min(start + TEXT_BATCH, len(texts)), len(texts))
        embeddings = torch.cat(parts)
        finite = embeddings.isfinite().all(1)
        if not bool(finite.all()):
            raise ValueError(
                f"The text tower of {self.cfg.model_name} gives NaN or infinite values for "
                f"{texts[int((~finite).nonzero()[0])]!r:.60}. In float16, load the model in float32 or bfloat16."
            )
        return embeddings, found

    def _required_tokenizer(self) -> Callable[[list[str]], Tensor]:
        if self.tokenizer is None:
            raise ValueError(
                f"{self.cfg.model_name} was wrapped without a tokenizer, so it cannot encode text. Give one: "
                f"HookedCLIP.from_open_clip(clip, preprocess, open_clip.get_tokenizer(name))."
            )
        return self.tokenizer

    def text_fingerprint(self) -> str:
        """SHA-256 of what text embeddings depend on.

        That is everything the text tower's forward reads (weights, masks, classes and settings of its modules), the
        whole state of the tokenizer where it is of open_clip or Hugging Face, and its ids for fixed texts.
        """
        identity = (
            behaviour_digest(self.clip, without="visual"),
            tokenizer_state(self.tokenizer),
            token_digest(self.tokenizer),
        )
        return hashlib.sha256(repr(identity).encode()).hexdigest()

    def text_probe(self) -> Float[Tensor, "p e"]:
        """Unit embeddings of a few fixed texts in float32 on the CPU, to compare with those of another time or model.

        Raises:
            ValueError: as :meth:`encode_text`.
        """
        with torch.autocast(self.cfg.device.type, enabled=False):
            return self.encoded(list(PROBE_TEXTS[:EMBEDDED_TEXTS]))[0].float().cpu()

    def text_state(self) -> tuple[Any, ...]:
        """What changes, within a process, with almost any change of the text tower; takes no run of it.

        That are the tower's modules, weights and sums of their bits, which edits of ``weight.data`` change as well, and
        whether hooks are on it.
        """
        named = [each for name, each in self.clip.named_modules() if name.split(".")[0] not in ("visual", "")]
        held = [weight for name, weight in self.clip.named_parameters() if name.split(".")[0] != "visual"]
        read = torch.stack([word_sum(weight) for weight in held]).tolist() if held else []
        return (
            self.text_has_hooks(),
            id(self.tokenizer),
            *((id(each), type(each), tuple(settings_of(each).items())) for each in named),
            *((id(weight), weight._version, weight.dtype) for weight in held),
            *read,
        )

    def text_has_hooks(self) -> bool:
        """Whether hooks of torch on the text tower may change what it gives."""
        return has_forward_hooks(self.clip, without="visual")

    @property
    def logit_scale(self) -> float:
        """Factor from a cosine to CLIP's logit, ``logit_scale · cosine + logit_bias``.

        Raises:
            NotAvailableError: a ValueError and AttributeError, if the model is an image tower alone.
        """
        self._refuse_image_tower_alone()
        return float(self.clip.logit_scale.detach().exp())

    @property
    def logit_bias(self) -> float:
        """What is added to a scaled cosine in CLIP's logit: SigLIP's bias, 0 for models without one.

        Raises:
            NotAvailableError: a ValueError and AttributeError, if the model is an image tower alone.
        """
        self._refuse_image_tower_alone()
        bias = logit_bias_of(self.clip)
        return 0.0 if bias is None else float(bias.detach())

    def _refuse_image_tower_alone(self) -> None:
        self.check_holder()
        if logit_scale_of(self.clip) is None:
            raise NotAvailableError(
                f"{self.cfg.model_name} is an image tower alone: it has no texts and no logit scale."
            )
