"What can be learned from a table."

from .. import _modules_of

__getattr__ = _modules_of(__name__)
