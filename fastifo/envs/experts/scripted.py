"""Geometry for scripted experts: batched positions and quaternions (x, y, z, w)."""

import torch
from torch import Tensor


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Products of quaternions, [B, 4]: the rotation `b` first, then `a`."""
    axis_a, scalar_a = a[..., :3], a[..., 3:]
    axis_b, scalar_b = b[..., :3], b[..., 3:]
    axis = scalar_a * axis_b + scalar_b * axis_a + torch.linalg.cross(axis_a, axis_b)
    scalar = scalar_a * scalar_b - (axis_a * axis_b).sum(-1, keepdim=True)
    return torch.cat([axis, scalar], -1)


def inverse(quaternion: Tensor) -> Tensor:
    """Inverses of unit quaternions, [B, 4]."""
    return quaternion * quaternion.new_tensor([-1.0, -1.0, -1.0, 1.0])


def rotate(quaternion: Tensor, vector: list[float]) -> Tensor:
    """A vector rotated by each of the quaternions [B, 4], [B, 3]."""
    pure = quaternion.new_tensor([*vector, 0.0]).expand_as(quaternion)
    return multiply(multiply(quaternion, pure), inverse(quaternion))[..., :3]


def rotation_vector(quaternion: Tensor) -> Tensor:
    """Axis times angle of each rotation [B, 4], with angles up to pi, in radians, [B, 3]."""
    positive = torch.where(quaternion[..., 3:] < 0.0, -quaternion, quaternion)
    axis, scalar = positive[..., :3], positive[..., 3:]
    sine = axis.norm(dim=-1, keepdim=True)
    angle = 2.0 * torch.atan2(sine, scalar)
    # The limit of angle / sine at the identity is 2.
    return axis * torch.where(sine > 1e-9, angle / sine.clamp(min=1e-9), 2.0)


def heading(quaternion: Tensor) -> Tensor:
    """Angle of the rotated x axis in the horizontal plane, in radians, [B]."""
    x = rotate(quaternion, [1.0, 0.0, 0.0])
    return torch.atan2(x[..., 1], x[..., 0])


def nearest(angle: Tensor, period: float) -> Tensor:
    """The angle modulo the period in [-period / 2, period / 2), [B]."""
    return (angle + 0.5 * period) % period - 0.5 * period


def pointing_down(yaw: Tensor) -> Tensor:
    """Orientations whose z axis points down and whose x axis has the heading `yaw`, [B, 4].

    They are a half turn about x, then a rotation by `yaw` about the vertical axis.
    """
    zero = torch.zeros_like(yaw)
    return torch.stack([(0.5 * yaw).cos(), (0.5 * yaw).sin(), zero, zero], -1)
