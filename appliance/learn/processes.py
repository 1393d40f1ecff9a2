"""Several processes that train one model, as `accelerate launch` or `torchrun` start them.

Data parallel only: every process holds the whole model and its share of a step's documents, and
gradients are summed. Since all share one and the same batch, losses do not depend on the number of
processes. With one process nothing is communicated. Imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from appliance.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """The place of this process among them."""

    rank: int = 0  # the process of rank 0 writes the files
    world_size: int = 1  # number of processes
    local_rank: int = 0  # which of this machine's GPUs is its own

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum_gradients(self, weights: Iterable[Any]) -> None:
        """Replace every gradient by its sum over the processes.

        Gradients of one type travel as one tensor: many small messages would cost more.
        """
        if self.world_size == 1:
            return
        import torch
        import torch.distributed as dist

        of_type: dict[tuple[Any, Any], list[Any]] = {}
        for weight in weights:
            if weight.grad is None:  # a process without an answer token in its share
                weight.grad = torch.zeros_like(weight)
            of_type.setdefault((weight.grad.dtype, weight.grad.device), []).append(weight.grad)

        for gradients in of_type.values():
            flat = torch.cat([g.reshape(-1) for g in gradients])
            dist.all_reduce(flat)
            parts = flat.split([g.numel() for g in gradients])
            for gradient, summed in zip(gradients, parts, strict=True):
                gradient.copy_(summed.view_as(gradient))

    def sums(self, *values: float) -> list[float]:
        """The sum over processes of each value, in float64."""
        if self.world_size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        device = f"cuda:{self.local_rank}" if dist.get_backend() == "nccl" else "cpu"
        totals = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(totals)
        return [float(t) for t in totals.tolist()]

    def gather(self, values: list[Any]) -> list[Any]:
        """The lists of all processes, end to end, in order of rank."""
        if self.world_size == 1:
            return values
        import torch.distributed as dist

        lists: list[Any] = [None] * self.world_size
        dist.all_gather_object(lists, values)
        return [value for part in lists for value in part]

    def wait(self) -> None:
        """Return once every process has called this."""
        self.sums(0.0)


def join_processes(*, is_gpu: bool) -> Processes:
    """This process's place among those that the launcher started, joined by nccl on GPUs and gloo
    on CPUs.

    Raises UsageError when there are more processes than GPUs.
    """
    world_size = _world_size()
    if world_size == 1:
        return Processes()

    import torch
    import torch.distributed as dist

    rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if is_gpu and local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"process {local_rank} of this machine has no GPU: "
            f"there are {torch.cuda.device_count()}",
            expected="one process per GPU",
            remedy="accelerate launch --num_processes with the number of GPUs",
        )

    if is_gpu:
        torch.cuda.set_device(local_rank)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if is_gpu else "gloo")
    return Processes(rank, world_size, local_rank)


def leave_processes() -> None:
    """End the communication that `join_processes` began. A group of another library stays."""
    if _world_size() == 1:
        return

    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _world_size() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))
