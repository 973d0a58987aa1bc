from .by_name import Loaded as Loaded
from .by_name import Origin as Origin
from .by_name import load as load
from .errors import LoadingWarning as LoadingWarning
from .errors import ModelNotFoundError as ModelNotFoundError
from .names import SCENES_FOLDER as SCENES_FOLDER
from .options import Options as Options
