"""One training by several processes, each with its part of every batch; in a process that is alone all of it does nothing.

Who a process is, torchrun says in its environment. A sum over processes runs on NCCL for what lies on a CUDA device and
on gloo for what lies in main memory, so that counts and wishes never wait for the device.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastscnn.base.errors import FastSCNNError

_PATIENCE = timedelta(hours=12)  # for one that reads all the data or writes; who has gone is noticed at once all the same
_NEEDED = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets beside WORLD_SIZE


def size() -> int:
    """How many processes train together, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among them, from 0."""
    return int(os.environ.get("RANK", "0")) if size() > 1 else 0


def first() -> bool:
    """Whether this is the process that writes files and tells of progress."""
    return rank() == 0


def neighbours() -> int:
    """How many of the processes run on this machine, which share its memory and its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if size() > 1 else 1


def device() -> torch.device:
    """Where this process computes: each on a GPU of its own, where there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda") if size() == 1 else torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def part(batch: int) -> range:
    """Which samples of a batch are this process's.

    Args:
        batch: samples of a step, all processes together.

    Raises:
        FastSCNNError: a batch that cannot be split evenly.
    """
    share, rest = divmod(batch, size())
    if rest or not share:
        raise FastSCNNError(f"batch: {batch} images a step cannot be split evenly among {size()} processes; --batch is that of "
                            "all of them together, so take a multiple of their number.")
    return range(rank() * share, (rank() + 1) * share)


@contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that torchrun started, for as long as the body runs; decorates functions too.

    Raises:
        FastSCNNError: more processes than GPUs on this machine, an environment that is not torchrun's, or another
            process that has ended.
    """
    if size() == 1:
        yield
        return
    if missing := [name for name in _NEEDED if name not in os.environ]:
        raise FastSCNNError(f"WORLD_SIZE is {size()} but {', '.join(missing)} is missing; start the processes by torchrun, "
                            "or unset WORLD_SIZE to train in one.")
    if cuda := torch.cuda.is_available():
        if neighbours() > torch.cuda.device_count():
            raise FastSCNNError(f"{neighbours()} processes are to share the {torch.cuda.device_count()} GPUs of this machine; "
                                "give --nproc-per-node as many as there are.")
        torch.cuda.set_device(device())
    if dist.is_initialized():
        raise FastSCNNError("An earlier training of this process ended with an error or still runs; start torchrun anew.")
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
        yield
    except RuntimeError as error:
        if not _is_of_connections(error):
            raise
        # Nothing is torn down: that would wait for the one who has gone.
        reason = str(error).partition(". ")[0]
        raise FastSCNNError(f"Process {rank()} has lost another one of this training, which ended or cannot be reached "
                            f"({reason}); its own message says why, and --resume goes on from what was saved.") from error
    dist.destroy_process_group()


def _is_of_connections(error: RuntimeError) -> bool:
    """Whether an error came from talking to other processes: gloo's are known by their text alone."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def total(values: Tensor) -> Tensor:
    """The sum over all processes, the same bits in each; no gradient goes through it."""
    if size() == 1:
        return values
    summed = values.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(summed)
    return summed


def anyone(wish: bool) -> bool:
    """Whether any process wishes it: all get the same answer, so that all do the same."""
    return bool(total(torch.tensor(int(wish)))) if size() > 1 else wish


def wait() -> None:
    """Returns when every process has come here."""
    total(torch.zeros(1))


@contextmanager
def one_first() -> Iterator[None]:
    """On each machine one process goes through the body before the others, which then find what it has cached on disk."""
    leads = size() == 1 or os.environ["LOCAL_RANK"] == "0"
    if not leads:
        wait()
    yield
    if leads:
        wait()


def agree(what: str) -> None:
    """Makes sure that all processes begin with the same.

    Args:
        what: the text that decides what they do.

    Raises:
        FastSCNNError: the text of another process differs; in all of them.
    """
    if size() == 1:
        return
    own = torch.tensor([int.from_bytes(hashlib.sha256(what.encode()).digest()[:7], "big")])
    every = [torch.empty_like(own) for _ in range(size())]
    dist.all_gather(every, own)
    if others := [str(number) for number, theirs in enumerate(every) if theirs != every[0]]:
        raise FastSCNNError(f"Not every process begins with what process 0 begins with ({', '.join(others)} not); give all "
                            "machines the same command, data and weights, and for --resume the same folder of the run.")


def add_up(gradients: Sequence[Tensor]) -> None:
    """Puts the sum over all processes in the place of each gradient, in one message: all of them together are small."""
    if size() == 1 or not gradients:
        return
    summed = total(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, values in zip(gradients, torch.split(summed, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(values.view(gradient.shape))


def synchronise(model: nn.Module) -> None:
    """Makes every batch norm take mean and variance over the batches of all processes; parameters stay the same objects.

    PyTorch's own works on CUDA alone; `SynchronisedNorm` stands in for it on a CPU.
    """
    if size() == 1:
        return
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.BatchNorm2d) and not isinstance(norm, SynchronisedNorm):
                convert = nn.SyncBatchNorm.convert_sync_batchnorm if norm.weight.is_cuda else SynchronisedNorm
                setattr(parent, name, convert(norm))


class SynchronisedNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, which must be of one size; keys of its state as those of `norm`.

    Args:
        norm: whose parameters and statistics it takes over.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias, self.training = norm.weight, norm.bias, norm.training
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.BatchNorm2d's own name for it
        """Input and result [N, C, H, W], in the same type."""
        if not self.training:
            return super().forward(input)
        # Mean first, then the variance around it: the difference of two sums would lose digits.
        x = input.to(self.weight.dtype)
        mean = _sum(x.mean((0, 2, 3))) / size()
        centred = x - mean[:, None, None]
        variance = _sum(centred.square().mean((0, 2, 3))) / size()
        self._track(mean.detach(), variance.detach(), size() * x.numel() // len(mean))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Moves the running statistics as nn.BatchNorm2d does: with the unbiased variance."""
        assert self.momentum is not None
        self.get_buffer("num_batches_tracked").add_(1)
        self.get_buffer("running_mean").lerp_(mean, self.momentum)
        self.get_buffer("running_var").lerp_(variance * (count / max(1, count - 1)), self.momentum)


class _Sum(torch.autograd.Function):
    """The sum over all processes, through which gradients go: each process's input acts on the loss of all."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return total(values)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return total(gradient)


def _sum(values: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(values))  # type: ignore[no-untyped-call]
