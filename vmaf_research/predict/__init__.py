"Which setting of an encoder reaches a target."

from .. import _modules_of

__getattr__ = _modules_of(__name__)
