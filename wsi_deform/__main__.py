"""``python -m wsi_deform``: the command line, for launchers such as ``torchrun -m`` that need a module."""

from wsi_deform.cli.main import app

if __name__ == "__main__":
    app()
