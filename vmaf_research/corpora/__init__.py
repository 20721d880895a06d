"Which pairs, from where: tables of features, and rows of encodes."

from .. import _modules_of

__getattr__ = _modules_of(__name__)
