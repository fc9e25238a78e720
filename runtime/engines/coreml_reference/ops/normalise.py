"""Softmax and the normalisations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tm_export.runtime.engines.coreml_reference.ops.table import Table


def _softmax(x: Tensor, axis: Tensor) -> Tensor:
    return torch.softmax(x, int(axis))


def _layer_norm(
    x: Tensor, axes: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    dims = sorted(axis % x.ndim for axis in axes.tolist())
    if dims == list(range(x.ndim - len(dims), x.ndim)):
        return F.layer_norm(x, x.shape[dims[0] :], gamma, beta, float(epsilon))
    variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    result = (x - mean) * torch.rsqrt(variance + epsilon)
    shape = [x.shape[axis] if axis in dims else 1 for axis in range(x.ndim)]
    if gamma is not None:
        result = result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


def _batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, eps=float(epsilon))


def _instance_norm(x: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
    return F.instance_norm(x, weight=gamma, bias=beta, eps=float(epsilon))


def _l2_norm(x: Tensor, epsilon: Tensor) -> Tensor:
    return x * torch.rsqrt(torch.sum(x * x, (-3, -2, -1), keepdim=True) + epsilon)


def _local_response_norm(x: Tensor, size: Tensor, alpha: Tensor, beta: Tensor, k: Tensor) -> Tensor:
    return F.local_response_norm(x, int(size), float(alpha), float(beta), float(k))


TABLE: Table = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "layer_norm": _layer_norm,
    "local_response_norm": _local_response_norm,
    "softmax": _softmax,
}
