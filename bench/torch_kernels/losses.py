"""Losses, and how many samples are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..inputs import Call
from .tensors import Make, Tensor, aten, out, tensor, tensors, torch


def _reduction(call: Call) -> tuple[int, list[Any]]:
    """aten's number of the reduction, none where samples have weights; these tensors of the call."""
    found = tensors(call, None)
    return (0 if found[2] is not None else 1 if call.params["mean"] else 2), found


def _reduced(call: Call, losses: Tensor, sample_weight: Tensor | None, total: Any) -> Tensor:
    """The loss, from those of each row where samples have weights."""
    if sample_weight is None:
        return losses
    weighted = (losses.reshape(len(sample_weight), -1) * sample_weight[:, None]).sum()
    return weighted / total if call.params["mean"] else weighted


def _upstream(call: Call, scores: Tensor, sample_weight: Tensor | None, total: Any) -> Tensor:
    """The gradient of the loss by what the operator returns."""
    if sample_weight is None:
        return torch.ones((), dtype=scores.dtype)
    return sample_weight / total if call.params["mean"] else sample_weight


def _nll(call: Call, memory_format: Any) -> Callable[[], Any]:
    reduction, (logs, labels, sample_weight, weight) = _reduction(call)
    ignored = call.params["ignore_index"]

    def total_weight() -> Any:
        weights = sample_weight if weight is None else sample_weight * weight[labels]
        return weights[labels != ignored].sum()

    def loss_and_gradient(logs: Any = logs) -> Any:
        total = None if sample_weight is None else total_weight()
        loss, weights = aten.nll_loss_forward(logs, labels, weight, reduction, ignored)
        up = _upstream(call, logs, sample_weight, total)
        dlogs = aten.nll_loss_backward(up, logs, labels, weight, reduction, ignored, weights)
        return _reduced(call, loss, sample_weight, total), dlogs

    return loss_and_gradient


def _cross_entropy(call: Call, memory_format: Any) -> Callable[[], Any]:
    """Without smoothing, for which PyTorch has no operator."""
    scores, nll = tensor(call.inputs[0]), _nll(call, memory_format)

    def loss_and_gradient() -> Any:
        logs = aten._log_softmax(scores, 1, False)
        loss, dlogs = nll(logs)  # type: ignore[call-arg]
        return loss, aten._log_softmax_backward_data(dlogs, logs, 1, scores.dtype)

    return loss_and_gradient


def _soft_cross_entropy(call: Call, memory_format: Any) -> Callable[[], Any]:
    _, (scores, target, sample_weight, weight) = _reduction(call)
    smoothing, K = call.params["label_smoothing"], call.sizes["K"]

    def loss_and_gradient() -> Any:
        logs, shares = aten._log_softmax(scores, 1, False), target
        if smoothing:
            shares = shares * (1 - smoothing) + smoothing / K
        if weight is not None:
            shares = shares * weight
        if sample_weight is not None:
            shares = shares * sample_weight[:, None]
        if call.params["mean"]:
            shares = shares / (len(scores) if sample_weight is None else sample_weight.sum())
        return -(shares * logs).sum(), aten._log_softmax_backward_data(-shares, logs, 1, scores.dtype)

    return loss_and_gradient


def _multi_margin(call: Call, memory_format: Any) -> Callable[[], Any]:
    reduction, (scores, labels, sample_weight, weight) = _reduction(call)
    how = call.params["p"], call.params["margin"], weight, reduction
    factor = 1 if call.params["class_mean"] else call.sizes["K"]

    def loss_and_gradient() -> Any:
        total = None if sample_weight is None else sample_weight.sum()
        loss = aten.multi_margin_loss(scores, labels, *how) * factor
        up = _upstream(call, scores, sample_weight, total) * factor
        dscores = aten.multi_margin_loss_backward(up, scores, labels, *how)
        return _reduced(call, loss, sample_weight, total), dscores

    return loss_and_gradient


def _pointwise(name: str, option: str | None = None, backward: bool = True) -> Make:
    """A loss of numbers, and its gradient by PyTorch's operator, if it has one."""

    def make(call: Call, memory_format: Any) -> Callable[[], Any]:
        reduction, (scores, target, sample_weight) = _reduction(call)
        how = (reduction,) if option is None else (reduction, call.params[option])
        operator, gradient = getattr(aten, name), getattr(aten, f"{name}_backward", None) if backward else None
        factor = call.params.get("factor", 1)
        numbers = scores.numel() // len(scores)

        def loss_and_gradient() -> Any:
            total = None if sample_weight is None else sample_weight.sum() * numbers
            loss = operator(scores, target, *how) * factor
            up = _upstream(call, scores, sample_weight, total) * factor
            if sample_weight is not None:
                up = up.reshape(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
            elif gradient is None and call.params["mean"]:
                up = up / scores.numel()
            d = (scores - target).sgn_().mul_(up) if gradient is None else gradient(up, scores, target, *how)
            return _reduced(call, loss, sample_weight, total), d

        return loss_and_gradient

    return make


def _bce_with_logits(call: Call, memory_format: Any) -> Callable[[], Any]:
    reduction, (scores, target, sample_weight, weight, pos_weight) = _reduction(call)

    def loss_and_gradient() -> Any:
        total = None if sample_weight is None else sample_weight.sum() * scores.shape[1]
        loss = aten.binary_cross_entropy_with_logits(scores, target, weight, pos_weight, reduction)
        up = _upstream(call, scores, sample_weight, total)
        if sample_weight is not None:
            up = up[:, None]
        elif call.params["mean"]:
            up = up / scores.numel()
        if weight is not None:
            up = up * weight
        if pos_weight is None:
            d = torch.sigmoid(scores).sub_(target).mul_(up)
        else:
            d = (1 - target - (1 + (pos_weight - 1) * target) * torch.sigmoid(-scores)) * up
        return _reduced(call, loss, sample_weight, total), d

    return loss_and_gradient


def _counted(right: Tensor, among: Tensor | None) -> tuple[Tensor, Tensor]:
    right = right if among is None else right & among
    return right.sum(), right


def _count_correct(call: Call, memory_format: Any) -> Callable[[], Any]:
    scores, labels, among = tensors(call, None)
    return lambda: _counted(scores.argmax(1) == labels, among)


def _count_agreeing(call: Call, memory_format: Any) -> Callable[[], Any]:
    scores, target, among = tensors(call, None)
    return lambda: _counted(scores.argmax(1) == target.argmax(1), among)


def _count_signs(call: Call, memory_format: Any) -> Callable[[], Any]:
    scores, target, among = tensors(call, None)
    return lambda: _counted(((scores > 0) == (target > 0.5)).flatten(1).all(1), among)


def _l2_penalty(call: Call, memory_format: Any) -> Callable[[], Any]:
    (param,), factor = tensors(call, None), call.params["factor"]
    _, dparam = out(call)
    return lambda: (torch.dot(param, param) * (0.5 * factor), torch.mul(param, factor, out=dparam))


KERNELS: dict[str, Make] = {
    "cross_entropy": _cross_entropy,
    "soft_cross_entropy": _soft_cross_entropy,
    "nll": _nll,
    "multi_margin": _multi_margin,
    "count_correct": _count_correct,
    "count_agreeing": _count_agreeing,
    "mse": _pointwise("mse_loss"),
    "l1": _pointwise("l1_loss", backward=False),
    "huber": _pointwise("huber_loss", "delta"),
    "bce_with_logits": _bce_with_logits,
    "count_signs": _count_signs,
    "l2_penalty": _l2_penalty,
}
