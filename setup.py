"""Puts ``configs/*.yaml``, whose home is the top of the checkout, into the wheel; all else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """The package, and the configurations as ``wsi_deform/configs``; an editable install reads them where they lie."""

    def run(self) -> None:
        """Build the package, then copy the configurations."""
        super().run()
        if not self.editable_mode:
            for source, copy in self._configs().items():
                self.mkpath(str(copy.parent))
                self.copy_file(str(source), str(copy))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files that are built; a wheel is checked against them."""
        return [*super().get_outputs(include_bytecode), *map(str, self._configs().values())]

    def _configs(self) -> dict[Path, Path]:
        folder = Path(self.build_lib) / "wsi_deform" / "configs"
        return {source: folder / source.name for source in sorted(Path("configs").glob("*.yaml"))}


setup(cmdclass={"build_py": BuildWithConfigs})
