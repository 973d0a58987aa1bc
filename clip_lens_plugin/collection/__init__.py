from clip_lens_plugin.collection.collect import collect as collect
from clip_lens_plugin.collection.store import ContributionStore as ContributionStore
