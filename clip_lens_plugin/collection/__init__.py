from clip_lens_plugin.collection.collecting import collect as collect
from clip_lens_plugin.collection.store import ContributionStore as ContributionStore
