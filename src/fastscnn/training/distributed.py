"""One training in several processes: who takes part (`World`), sums over processes, and DistributedDataParallel.

`join` reads torchrun's environment once. Everything else receives the `World`. In a single process, every method of it
returns at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from fastscnn.base.errors import ArgumentError, FastSCNNError

# How long one process may read data or write files while the others wait. A process that ends is noticed at once.
_TIMEOUT = timedelta(hours=12)
_POLL = 0.05  # seconds between two looks at the store
# Set by torchrun, beside WORLD_SIZE.
_VARIABLES = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """The processes that train together, as seen by one of them.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes on all machines.
        local_rank: number of this process on its machine, from 0.
        local_size: number of processes on this machine, which share its memory and its cores.
        device: where this process computes.
        max_restarts: how often torchrun starts the processes again after a failure.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    device: torch.device = _CPU
    max_restarts: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> World:
        """Return the world that torchrun's variables describe; without WORLD_SIZE, a single process.

        Each process gets a GPU of its own if the machine has any, else the CPU.

        Raises:
            FastSCNNError: WORLD_SIZE is over 1, but other variables of torchrun are missing.
        """
        cuda = torch.cuda.is_available()
        size, restarts = int(environment.get("WORLD_SIZE", "1")), int(environment.get("TORCHELASTIC_MAX_RESTARTS", "0"))
        if size == 1:
            return cls(device=torch.device("cuda" if cuda else "cpu"), max_restarts=restarts)
        if missing := [name for name in _VARIABLES if name not in environment]:
            raise FastSCNNError(f"WORLD_SIZE is {size}, but {', '.join(missing)} is missing; start the processes with "
                                "torchrun, or unset WORLD_SIZE to train in one process.")
        rank, local_rank, local_size = (int(environment[name]) for name in _VARIABLES[:3])
        device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
        return cls(rank, size, local_rank, local_size, device, restarts)

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def part(self, batch: int) -> range:
        """Return which samples of a batch of all processes are this process's.

        Raises:
            ArgumentError: the batch cannot be split evenly, or leaves one image for a process on a CPU.
        """
        share, rest = divmod(batch, self.size)
        if rest or not share:
            raise ArgumentError(f"batch: {batch} images per step cannot be split evenly among {self.size} processes; use a "
                                "multiple of their number, since batch counts the images of all of them.")
        if share < 2 <= self.size and self.device.type == "cpu":
            raise ArgumentError(f"batch: {batch} images per step leave one image for each of {self.size} processes, but batch "
                                f"norm on a CPU needs two; use at least {2 * self.size}, or fewer processes.")
        return range(self.rank * share, (self.rank + 1) * share)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, with the same bits in each. Gradients do not flow through it."""
        if self.size == 1:
            return values
        summed = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes, with the same bits in each. Gradients do not flow through it."""
        return values if self.size == 1 else self.sum(values) / self.size

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process; the answer is the same in all of them."""
        return bool(self.sum(torch.tensor(int(flag)))) if self.size > 1 else flag

    def least(self, value: int) -> int:
        """Return the smallest value of all processes; the answer is the same in all of them."""
        if self.size == 1:
            return value
        shared = torch.tensor(value)
        dist.all_reduce(shared, dist.ReduceOp.MIN)
        return int(shared)

    def from_first(self, read: Callable[[], tuple[dict[str, Tensor], Any]]) -> tuple[dict[str, Tensor], Any]:
        """Return what `read` returns in process 0, tensors and JSON values, in every process. Only process 0 calls it.

        So the others need not see the files of process 0. On NFS, another machine may see a new file only after a minute.
        """
        if self.size == 1:
            return read()
        tensors, values = read() if self.first else ({}, None)
        stored, text = self._sent(save(tensors)), self._sent(json.dumps(values).encode())
        return load(stored), json.loads(text)

    def _sent(self, data: bytes) -> bytes:
        """Return the bytes that process 0 passes."""
        count = torch.tensor(len(data))
        dist.broadcast(count, 0)
        buffer = torch.empty(int(count), dtype=torch.uint8)
        if self.first:
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        dist.broadcast(buffer, 0)
        return buffer.numpy().tobytes()

    def wait(self) -> None:
        """Return once every process has called this."""
        self.sum(torch.zeros(1))

    @contextmanager
    def one_first(self) -> Iterator[None]:
        """Run the body in one process per machine first. The others then find its results in the cache on disk."""
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()

    def agree(self, text: str) -> None:
        """Check that all processes pass the same text.

        Raises:
            FastSCNNError: the text of another process differs. All processes raise it.
        """
        if self.size == 1:
            return
        own = torch.tensor([int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")])
        every = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(every, own)
        if others := [str(rank) for rank, theirs in enumerate(every) if theirs != every[0]]:
            raise FastSCNNError(f"Processes {', '.join(others)} start with other settings or files than process 0; give all "
                                "machines the same command, data and weights.")

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return a module whose backward pass averages the gradients over all processes; alone, the model itself.

        It shares the model's parameters. On CUDA, the batch norms of the model become SyncBatchNorm, which works on CUDA
        only. On a CPU, each process normalises by the statistics of its own part of the batch.
        """
        if self.size == 1:
            return model
        device_ids = None
        if self.device.type == "cuda":
            model, device_ids = nn.SyncBatchNorm.convert_sync_batchnorm(model), [self.device]  # type: ignore[no-untyped-call]
        return DistributedDataParallel(model, device_ids, static_graph=True)

    def average_buffers(self, model: nn.Module) -> None:
        """Set the running statistics of batch norms to their mean over all processes.

        DistributedDataParallel alone would keep those of process 0, and drop what the other processes have seen.
        """
        if self.size == 1 or self.device.type == "cuda":  # SyncBatchNorm keeps them equal
            return
        buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        means = self.mean(torch.cat([buffer.flatten() for buffer in buffers]))
        parts = torch.split(means, [buffer.numel() for buffer in buffers])
        for buffer, values in zip(buffers, parts, strict=True):
            buffer.copy_(values.view_as(buffer))


ALONE = World()  # a single process on the CPU


@contextmanager
def join() -> Iterator[World]:
    """Join the processes that torchrun started, for as long as the body runs.

    Raises:
        FastSCNNError: more processes than GPUs on this machine, an environment that torchrun did not make, or another
            process has ended.
    """
    world = World.from_environment()
    if world.size == 1:
        yield world
        return
    cuda = world.device.type == "cuda"
    if cuda:
        if world.local_size > torch.cuda.device_count():
            raise FastSCNNError(f"{world.local_size} processes cannot share the {torch.cuda.device_count()} GPUs of this "
                                "machine; lower --nproc-per-node to the number of GPUs.")
        torch.cuda.set_device(world.device)
    if dist.is_initialized():
        raise FastSCNNError("An earlier training in this process failed or is still running; start torchrun again.")
    try:
        # Flags and counts in main memory use gloo, so that they never wait for the GPU.
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=_store(world), rank=world.rank, world_size=world.size, timeout=_TIMEOUT)
        yield world
    except RuntimeError as error:
        if not _is_connection_error(error):
            raise
        # The process group is left as it is: destroying it would wait for the process that has ended.
        reason = str(error).partition(". ")[0]
        raise FastSCNNError(f"Process {world.rank} lost another process, which ended or cannot be reached ({reason}). "
                            "Read the message of that process; --resume continues from the last saved state.") from error
    dist.destroy_process_group()


def _store(world: World) -> Store:
    """Return torchrun's store for this start of the processes only.

    torchrun keeps its store after a restart, and with it the addresses of processes that have ended, to which new ones would
    connect. Therefore each process leaves a new word, and process 0 answers it with the name of a part of the store.
    """
    store = next(rendezvous("env://", timeout=_TIMEOUT))[0]
    if world.first:
        part = secrets.token_hex(8)
        others = range(1, world.size)
        while not all(store.check([f"joined/{part}/{rank}"]) for rank in others):
            for rank in others:
                if store.check([f"word/{rank}"]):
                    store.set(f"answer/{store.get(f'word/{rank}').decode()}", part)
            time.sleep(_POLL)
    else:
        word = secrets.token_hex(8)
        store.set(f"word/{world.rank}", word)
        part = store.get(f"answer/{word}").decode()
        store.set(f"joined/{part}/{world.rank}", "")
    return PrefixStore(part, store)


def _is_connection_error(error: RuntimeError) -> bool:
    """Return whether an error came from communication between processes. Errors of gloo have no class of their own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()
