"""A vision transformer as an encoder: what pathology's published encoders are.

The names of parameters are those of the timm library (``patch_embed.proj``, ``blocks.0.attn.qkv``, ``pos_embed``, ...),
in which most of them are published, so that a user's file loads.

Source:
    Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021 (arXiv 2010.11929); a scale of each layer after
    Touvron et al., "Going deeper with Image Transformers", ICCV 2021.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.layers import require_image

PATCHES = (8, 16)
NORM_EPS = 1e-6
MLP_RATIO = 4


class _Scale(nn.Module):
    """Times a learned number for each channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class _Attention(nn.Module):
    """Every token looks at every other."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, dim = tokens.shape
        parts = self.qkv(tokens).view(batch, count, 3, self.heads, dim // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value)
        looked: Tensor = self.proj(seen.transpose(1, 2).reshape(batch, count, dim))
        return looked


class _Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return found


class _Block(nn.Module):
    """Attention and MLP, each normed before and added to what it was given."""

    def __init__(self, dim: int, heads: int, *, layer_scale: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = _Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = _Mlp(dim)
        self.ls1: nn.Module = _Scale(dim) if layer_scale else nn.Identity()
        self.ls2: nn.Module = _Scale(dim) if layer_scale else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        found: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return found


class VisionTransformer(nn.Module):
    """Image -> the features of its patches.

    Args:
        dim: Channels of a token: 384, 768, 1024 of ViT-S, -B and -L.
        depth: Blocks: 12, 12, 24.
        heads: Of attention: 6, 12, 16.
        patch: Side of a patch, px: 8 or 16.
        image_px: Side of the images that it was trained on, px, which says how many positions it knows.
        layer_scale: Whether its blocks scale what they add.

    Attributes:
        channels: Stride -> channels of its feature map.

    Raises:
        ModelError: Sizes that cannot be.

    Convention:
        Images of another size than ``image_px`` take the positions resized to theirs (bicubic, antialiased), as timm's
        ``dynamic_img_size`` does.
    """

    def __init__(
        self,
        *,
        dim: int = 1024,
        depth: int = 24,
        heads: int = 16,
        patch: int = 16,
        image_px: int = 224,
        layer_scale: bool = True,
    ) -> None:
        super().__init__()
        if patch not in PATCHES:
            raise ModelError(
                f"vit with patches of {patch} px: needed 8 or 16, of which windows are multiples."
            )
        if min(dim, depth, heads) < 1 or dim % heads or image_px < patch or image_px % patch:
            raise ModelError(
                f"vit of dim {dim}, depth {depth}, heads {heads}, image_px {image_px}: needed 1 or more of each, a dim "
                f"that is a multiple of heads, and an image_px that is one of {patch}."
            )
        self.channels, self.patch, self.side = {patch: dim}, patch, image_px // patch
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, patch, stride=patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + self.side**2, dim))
        self.blocks = nn.ModuleList(_Block(dim, heads, layer_scale=layer_scale) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Features by stride.

        Args:
            image: (B, 3, H, W), sides multiples of ``patch``.

        Returns:
            ``patch`` -> (B, dim, H / patch, W / patch), normed.
        """
        require_image(image, 3, "vit")
        patches = self.patch_embed["proj"](image)
        rows, columns = patches.shape[2:]
        tokens = patches.flatten(2).transpose(1, 2) + self._positions(rows, columns)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(image), -1, -1)
        tokens = torch.cat((first, tokens), dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        seen = self.norm(tokens)[:, 1:]
        return {self.patch: seen.transpose(1, 2).reshape(len(image), -1, rows, columns)}

    def _positions(self, rows: int, columns: int) -> Tensor:
        """(1, rows * columns, dim)."""
        known = self.pos_embed[:, 1:]
        if (rows, columns) == (self.side, self.side):
            return known
        grid = known.transpose(1, 2).reshape(1, -1, self.side, self.side)
        sized = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        return sized.flatten(2).transpose(1, 2)
