"""What the mathematics needs of a model; ``HookedCLIP`` and ``HookedText`` have it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.utilities.typed_module_list import TypedModuleList

from clip_lens_plugin.layers.block import Block
from clip_lens_plugin.layers.config import HookedCLIPConfig, HookedTextConfig, TowerConfig
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.pooling.pooling import Pooling
from clip_lens_plugin.model.hooks.run_lock import RunLock
from clip_lens_plugin.model.text.labels import Labels
from clip_lens_plugin.model.text.spelling import Spelt
from clip_lens_plugin.model.text.unseen_texts import UnseenTexts


@dataclass(frozen=True)
class Begun:
    """A run that has come as far as block 0.

    Attributes:
        stream: what enters it.
        mask: is added to the scores of attention in every block; None for nothing.
        read: what the pooling needs of the input, by its hook points.
    """

    stream: Float[Tensor, "b n d"]
    mask: Float[Tensor, "#b #h n n"] | None
    read: Mapping[str, Tensor]


class Tower(HookedRootModule, ABC):
    """A hooked tower with its projection: ``model(images)`` or ``model(texts)`` is the embedding [b, e].

    Decomposition is written for this and knows no more of a model.

    Attributes:
        cfg: the tower's shape.
        clip: the source's modules, which hold the weights.
        blocks, ln_final: the layers, with TransformerLens's names of hooks and weights.
    """

    cfg: TowerConfig
    clip: Any
    blocks: TypedModuleList[Block]
    ln_final: LayerNorm

    if TYPE_CHECKING:

        def __call__(self, given: Any) -> Float[Tensor, "b e"]: ...

    @property
    @abstractmethod
    def pooling(self) -> Pooling:
        """How the last stream becomes one vector."""

    @property
    @abstractmethod
    def source_blocks(self) -> list[nn.Module]:
        """The source's own blocks."""

    @property
    @abstractmethod
    def W_P(self) -> Float[Tensor, "d e"]:
        """The projection P from the pooled stream into the joint space."""

    @property
    @abstractmethod
    def b_P(self) -> Float[Tensor, " e"] | None:
        """The projection's bias, None where the source has none."""

    @property
    @abstractmethod
    def b_O(self) -> Float[Tensor, "l d"]:
        """The bias of each layer's heads."""

    @abstractmethod
    def begin(self, given: Any) -> Begun:
        """A run on what the model takes, ``given``, as far as block 0."""

    @abstractmethod
    def finish(self, stream: Float[Tensor, "b n d"], read: Mapping[str, Tensor]) -> Float[Tensor, "b e"]:
        """The embedding, from the last stream of a run and what :meth:`begin` read of its input."""

    @abstractmethod
    def project(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        """The pooled, normalised stream in the joint space."""

    @abstractmethod
    def check_source(self) -> None:
        """Does nothing if the source's modules are as they were wrapped; else raises SourceMismatchError."""

    @abstractmethod
    def alone(self) -> RunLock:
        """What a thread holds, with ``with``, while it runs the model or looks at its hooks."""


class TextModel(Tower):
    """A tower of texts.

    Attributes:
        cfg: the tower's shape.
    """

    cfg: HookedTextConfig

    @abstractmethod
    def to_tokens(self, texts: Any) -> Int[Tensor, "t n"]:
        """The token ids of texts, or those that were given."""

    @abstractmethod
    def spelt(self, texts: Any) -> tuple[Spelt, ...]:
        """Each text's tokens, and which of them make a word."""


class ImageModel(Tower):
    """A tower of images. Checks of pixels are written for this.

    Attributes:
        cfg: the tower's shape.
        preprocess: PIL picture to [3, height, width], or None.
    """

    cfg: HookedCLIPConfig
    preprocess: Callable[..., Tensor] | None


class ImageTextModel(ImageModel):
    """A tower of images with texts beside it, in the same joint space. Analyses that take texts are written for this.

    Attributes:
        tokenizer: texts to token ids, or None.
        labels: the vocabulary, or None.
    """

    tokenizer: Callable[[list[str]], Tensor] | None
    labels: Labels | None

    @property
    @abstractmethod
    def text(self) -> TextModel:
        """The tower of texts."""

    @property
    @abstractmethod
    def logit_scale(self) -> float:
        """Factor from a cosine to CLIP's logit."""

    @property
    @abstractmethod
    def logit_bias(self) -> float:
        """What is added to a scaled cosine in CLIP's logit; 0 for none."""

    @abstractmethod
    def encode_text(
        self,
        texts: str | Sequence[str],
        normalize: bool = True,
        on_progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> Float[Tensor, "t e"]:
        """Embeddings of texts; warns of texts that the tower does not see whole.

        Args:
            texts: one or several.
            normalize: to length 1.
            on_progress: called with how many are done, and of how many.
        """

    @abstractmethod
    def encoded(
        self,
        texts: list[str],
        normalize: bool = True,
        on_progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> tuple[Float[Tensor, "t e"], UnseenTexts]:
        """The same, and the texts that the tower did not see whole; ``normalize`` and ``on_progress`` as there."""

    @abstractmethod
    def text_fingerprint(self) -> str:
        """A digest of all that embeddings of texts depend on."""

    @abstractmethod
    def text_probe(self) -> Float[Tensor, "p e"]:
        """Embeddings of a few fixed texts, to compare with those of another time or model."""

    @abstractmethod
    def text_has_hooks(self) -> bool:
        """Whether hooks may change what texts give."""

    @abstractmethod
    def set_labels(self, names: Iterable[str], embeddings: Float[Tensor, "t e"] | None = None) -> None:
        """Makes texts the vocabulary.

        Args:
            names: of the vocabulary, one or more.
            embeddings: of the names; of their texts, by the tower of texts, if not given.
        """
