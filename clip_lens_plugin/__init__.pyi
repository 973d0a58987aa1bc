"""Where the public names are loaded from."""

import clip_lens_plugin.ablation as ablation  # noqa: F401
import clip_lens_plugin.datasets as datasets  # noqa: F401
import clip_lens_plugin.retrieval as retrieval  # noqa: F401
import clip_lens_plugin.scenes as scenes  # noqa: F401
import clip_lens_plugin.segmentation as segmentation  # noqa: F401
import clip_lens_plugin.views as views  # noqa: F401

from .ablation.curve import mean_ablation_curve as mean_ablation_curve
from .app.exploring import explore as explore
from .bridge.model import as_hooked_clip as as_hooked_clip
from .collection.running.collecting import collect as collect
from .collection.store import ContributionStore as ContributionStore
from .decisions.decision import Decision as Decision
from .decisions.explaining import explain as explain
from .decomposition.contributions import Contributions as Contributions
from .decomposition.running.runs import decompose as decompose
from .decomposition.running.text_runs import decompose_text as decompose_text
from .decomposition.text_contributions import TextContributions as TextContributions
from .describe.class_heads import class_heads as class_heads
from .describe.class_result import ClassHeads as ClassHeads
from .describe.singular import head_singular_texts as head_singular_texts
from .describe.somp import somp as somp
from .describe.spans import text_span as text_span
from .describe.sparse import sparse_text as sparse_text
from .describe.sparse_result import SparseText as SparseText
from .editing.effects import EditEffects as EditEffects
from .editing.means import head_means as head_means
from .editing.measuring import edit_effects as edit_effects
from .groups.effects import GroupEffects as GroupEffects
from .groups.effects import group_effects as group_effects
from .groups.grouping import Groups as Groups
from .groups.spurious.finding import spurious_heads as spurious_heads
from .groups.spurious.result import SpuriousHeads as SpuriousHeads
from .higher_order.neurons.neuron_moments import NeuronMoments as NeuronMoments
from .higher_order.neurons.neurons import SecondOrder as SecondOrder
from .higher_order.neurons.neurons import second_order as second_order
from .higher_order.scalars import neuron_scalars as neuron_scalars
from .higher_order.tree import UpstreamTree as UpstreamTree
from .higher_order.tree import upstream_tree as upstream_tree
from .higher_order.upstream import Upstream as Upstream
from .higher_order.upstream import upstream as upstream
from .interactions.interacting import Interaction as Interaction
from .interactions.interacting import interaction as interaction
from .maps.patch_text import PatchTextMap as PatchTextMap
from .maps.patch_text import patch_text_map as patch_text_map
from .model.hooked_clip import HookedCLIP as HookedCLIP
from .model.inputs.image_tokens import image_tokens as image_tokens
from .model.text.hooked_text import HookedText as HookedText
from .patching.attributed import AttributionPatching as AttributionPatching
from .patching.attribution import attribution_patching as attribution_patching
from .patching.heads import HeadPatching as HeadPatching
from .patching.heads import patch_heads as patch_heads
from .roles.finding import head_roles as head_roles
from .roles.growth import RoleGrowth as RoleGrowth
from .roles.growth import role_growth as role_growth
from .roles.result import HeadRoles as HeadRoles
from .saliency.mapping import saliency_map as saliency_map
from .saliency.mapping import saliency_maps as saliency_maps
from .saliency.result import SaliencyMap as SaliencyMap
from .segmentation.result import SegmentationScores as SegmentationScores
from .segmentation.scoring import segmentation_scores as segmentation_scores
from .statistics.class_sums import ClassSums as ClassSums
from .statistics.class_variance import eta_squared as eta_squared
from .statistics.moments import Moments as Moments
from .texts.pool import TextPool as TextPool
from .zero_shot.classifier import ZeroShotClassifier as ZeroShotClassifier

__version__: str
__all__: list[str]
