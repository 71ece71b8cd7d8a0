"""The deformation network: looks at the low-res view and says where the slide should be sampled densely."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.layers import BatchNorm, he_initialise, require_image


class DeformationNetwork(nn.Module):
    """A few convolutions at the full resolution of the low-res view, each followed by BatchNorm and ReLU.

    Args:
        in_channels: Channels of the low-res view (RGB, and whatever else is stacked on it).
        widths: Channels of each convolution, in order.
        kernel: Side of the kernels, odd.
        dilations: Distance between the pixels that neighbouring weights of a kernel see, one per width;
            None is 1 for all. A larger one sees further at the same cost.
        zero_init_head: Start the last 1x1 convolution at zero, so that training starts from the uniform
            grid. With He initialisation the first deformation map peaks far above its mean.

    Raises:
        ModelError: An even kernel, a width or dilation below 1, or not one dilation per width.

    Convention:
        Returns logits. The softmax over all positions of one image belongs to ``deform/density.py``.
        Where the head starts at zero, only the head receives a gradient in the first step.

    Source:
        Jin et al., ICLR 2022, section 2.3 and appendix A.7.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (24, 24, 3),
        kernel: int = 3,
        dilations: Sequence[int] | None = None,
        zero_init_head: bool = True,
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ModelError(f"deformation network kernel {kernel}: needed an odd number, such as 3, 5 or 7.")
        if not widths or min(widths) < 1:
            raise ModelError(
                f"deformation network widths {tuple(widths)}: needed one or more numbers of channels."
            )
        spread = (1,) * len(widths) if dilations is None else tuple(dilations)
        if len(spread) != len(widths) or min(spread) < 1:
            raise ModelError(
                f"deformation network dilations {spread}: needed one number of at least 1 for each of the "
                f"{len(widths)} widths {tuple(widths)}."
            )
        self.in_channels = in_channels
        layers: list[nn.Module] = []
        for inputs, outputs, dilation in zip((in_channels, *widths[:-1]), widths, spread, strict=True):
            reach = dilation * (kernel // 2)
            layers += [
                nn.Conv2d(inputs, outputs, kernel, padding=reach, dilation=dilation, bias=False),
                BatchNorm(outputs),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], 1, 1)
        he_initialise(self)
        if zero_init_head:
            nn.init.zeros_(self.head.weight)

    def forward(self, view: Tensor) -> Tensor:
        """Score every position of the low-res view.

        Args:
            view: (B, in_channels, H, W), the low-res view.

        Returns:
            (B, 1, H, W), logits of the deformation map.
        """
        require_image(view, self.in_channels, "deformation network")
        logits: Tensor = self.head(self.body(view))
        return logits
