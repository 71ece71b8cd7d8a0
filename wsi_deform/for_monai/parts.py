"""A model of this program from the networks of a bundle."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from wsi_deform.errors import ModelError
from wsi_deform.export.blocks import BlockScores
from wsi_deform.export.networks import DensityNetwork, ScoreNetwork
from wsi_deform.model import Model
from wsi_deform.model_file import model_of_description
from wsi_deform.texts import read_json


def model_of_parts(
    description: str | Path, network: nn.Module, deformation_network: nn.Module | None = None
) -> Model:
    """Put the networks of a bundle together to a model; they are shared, not copied.

    Args:
        description: ``configs/wsi_deform.json`` of the bundle.
        network: Its ``network``.
        deformation_network: Its ``deformation_network``; None where it has none.

    Returns:
        The model, in evaluation mode, on the device of ``network``.

    Raises:
        ModelError: The file cannot be read, or a network is missing or not of this model.
    """
    path = Path(description)
    try:
        about = read_json(path)
        model = model_of_description(about, path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"bundle {path}: cannot be read: {error}. Needed the file that wsi-deform export wrote."
        ) from error
    kind = BlockScores if model.has_blocks else ScoreNetwork
    if not isinstance(network, kind):
        raise ModelError(
            f"bundle {path}: its network is of the kind {type(network).__name__}. Needed "
            f"{kind.__module__}.{kind.__name__}, as network_def says."
        )
    wanted = model.deformation is not None
    if wanted != isinstance(deformation_network, DensityNetwork):
        found = "none" if deformation_network is None else f"a {type(deformation_network).__name__}"
        raise ModelError(
            f"bundle {path}: the deformation network is {found}. Needed "
            f"{'wsi_deform.export.networks.DensityNetwork' if wanted else 'none: no map is learned here'}."
        )
    pairs: list[tuple[str, nn.Module]] = [("segmentation", network)]
    if deformation_network is not None:
        pairs.append(("deformation", deformation_network))
    for name, part in pairs:
        given, needed = part.get_submodule("network"), model.get_submodule(name)
        shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (given, needed)]
        if shapes[0] != shapes[1]:
            raise ModelError(
                f"bundle {path}: its {name} network has other tensors than the model that this file describes. Needed "
                "the configurations and weights of one bundle."
            )
        setattr(model, name, given)
    return model.to_device(next(network.parameters()).device).eval()
