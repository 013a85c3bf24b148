"""Random changes of training images, decided by a generator and by nothing else."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["augment"]

PIXELS = 2  # largest shift of grey images; colour images move by twice as much, small ones by less
USUAL = 28  # width of a grey image
TURN, SHEAR, SCALE = 10.0, 0.1, 0.1  # degrees, and shares of the image


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """A changed copy of `images` ``(B, C, H, W)``, float in 0..1; random numbers are drawn on the CPU."""
    if kind == "none":
        return images
    return _affine(images, generator) if kind == "affine" else _shift_flip(images, generator)


def _affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turned, sheared, scaled and shifted a little, with bilinear interpolation and a black border."""
    count, _, height, width = images.shape
    draw = torch.rand((6, count), generator=generator) * 2 - 1
    angle = draw[0] * math.radians(TURN)
    scale_x, scale_y, shear = 1 + SCALE * draw[1], 1 + SCALE * draw[2], SHEAR * draw[3]
    cos, sin = angle.cos(), angle.sin()
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale_x * cos, scale_x * (shear * cos - sin)
    theta[:, 1, 0], theta[:, 1, 1] = scale_y * sin, scale_y * (shear * sin + cos)
    reach = min(PIXELS, PIXELS * width / USUAL)
    theta[:, 0, 2], theta[:, 1, 2] = draw[4] * 2 * reach / width, draw[5] * 2 * reach / height
    grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _shift_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shifted by whole pixels (black border) and, half of them, mirrored left to right."""
    count, channels, height, width = images.shape
    reach = PIXELS if channels == 1 else 2 * PIXELS
    rows = torch.randint(0, 2 * reach + 1, (count, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(0, 2 * reach + 1, (count, 1), generator=generator) + torch.arange(width)
    flipped = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    padded = F.pad(images, (reach,) * 4)
    rows, columns = rows.to(images.device), columns.to(images.device)
    sample = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
