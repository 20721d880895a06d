"""Tiny full-reference video-quality models that reproduce VMAF: measured, judged source by source, gated, packaged.

The names below are what most work needs. Each is looked up when it is first used, so that importing the package
costs nothing; `measure` is also the room of that name.
"""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec

__version__ = "0.1.0"

_FRONT_DOOR = {  # name: module that has it
    "corpus": "corpora.corpus",
    "extract": "corpora.extract",
    "load": "ship.registry",
    "loso": "learn.loso",
    "measure": "measure",
    "Predictor": "predict.predictor",
    "refresh": "ship.refresh",
    "sample_mean": "measure.sample",
    "score": "ship.score",
    "ship_gate": "ship.gate",
    "shot_features": "predict.shot_features",
    "tune": "predict.tune",
    "verify": "measure.manifest",
    "worst_frames": "serve.viewer",
}
__all__ = list(_FRONT_DOOR)


def _load(name):
    "A module of this package; only those that train need torch, which is installed with an extra."
    try:
        return _import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from .measure.core import BadInput

        raise BadInput(f"{name} trains, for which torch is needed: pip install 'vmaf-research[train]'") from error


def __getattr__(name):
    if name not in _FRONT_DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_FRONT_DOOR)}")
    module = _load(f"{__name__}.{_FRONT_DOOR[name]}")
    return module if _FRONT_DOOR[name] == name else getattr(module, name)


def __dir__():
    return sorted([*globals(), *_FRONT_DOOR])


def load_ipython_extension(shell):
    "`%load_ext vmaf_research` in a notebook: the magics `%vmaf` and `%%tune`."
    from vmaf_research.serve.magics import ResearchMagics

    shell.register_magics(ResearchMagics)


def _modules_of(room):
    "What a room has as its `__getattr__`: each module in it is imported when it is first used."

    def module(name):
        if _find_spec(f"{room}.{name}") is None:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return _load(f"{room}.{name}")

    return module
