"""What is in these pixels: video files, libvmaf, features, teachers, provenance.

The room can be called: `measure(reference, distorted)` is `vmaf_research.measure.measuring.measure_pair`.
"""

import sys
from types import ModuleType


class _Room(ModuleType):
    "A package that is called like its main function; `from vmaf_research import measure` gives this one."

    def __call__(self, *args, **options):
        return self.__wrapped__(*args, **options)

    @property
    def __wrapped__(self):
        from .measuring import measure_pair

        return measure_pair


sys.modules[__name__].__class__ = _Room
