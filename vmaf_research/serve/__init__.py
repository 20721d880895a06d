"How people and agents reach it: commands, and the tools of a server."

from .. import _modules_of

__getattr__ = _modules_of(__name__)
