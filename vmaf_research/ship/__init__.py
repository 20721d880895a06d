"Whether a model may be used, and what it is."

from .. import _modules_of

__getattr__ = _modules_of(__name__)
