from .running.collecting import collect as collect
from .store import ContributionStore as ContributionStore
