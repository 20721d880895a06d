"""What a wheel has beside the code: settings.ini and the registered models. Everything else is in pyproject.toml."""

import json
from pathlib import Path
from shutil import rmtree

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithModels(build_py):
    "Put them where the package looks for them when there is no checkout: in the folder of its code."

    def run(self):
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib, "vmaf_research")
        self.copy_file("settings.ini", str(package / "settings.ini"))
        rmtree(package / "model", ignore_errors=True)  # of an earlier build, with models that are no more
        self.mkpath(str(package / "model"))
        registry = json.loads(Path("model", "registry.json").read_text(encoding="utf-8"))
        for name in ("registry.json", *registry["files"]):
            self.copy_file(f"model/{name}", str(package / "model" / name))


setup(cmdclass={"build_py": BuildWithModels})
