"""Runs in more than one process, on one machine or several.

Processes are started by ``--num-gpus``, through Detectron2's ``launch``, or by torchrun. They use
NCCL where the model is on GPUs and gloo where it is on the CPU.
"""

import logging
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, get_start_method, set_start_method
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import create_ddp_model
from detectron2.engine import launch as launch_processes
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from nl_detectron_cli.names import running_program

from ..errors import UsageError
from .stopping import Stopped, block_ctrl_c, pass_signals_on, unblock_ctrl_c

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# How long a process that did not cause a failure stays silent. By then its launcher, which stops
# all processes when one of them ends, has stopped it too.
GRACE_SECONDS = 15


def started_by_torchrun() -> bool:
    """Whether the environment describes this process as one of a group."""
    return all(name in os.environ for name in TORCHRUN)


def is_first_on_machine() -> bool:
    """Whether this process checks a run for all processes of its machine.

    Where Detectron2 starts the processes, this is their launcher.
    """
    return not started_by_torchrun() or os.environ["LOCAL_RANK"] == "0"


def follow_torchrun(args: Namespace) -> None:
    """Set ``num_gpus``, ``num_machines`` and ``machine_rank`` to what torchrun has started.

    Raises:
        UsageError: ``--num-gpus`` or ``--num-machines`` contradicts it, or machines differ in their
            number of processes.
    """
    if not started_by_torchrun():
        return
    rank, world, _, local = (int(os.environ[name]) for name in TORCHRUN)
    if world % local:
        raise UsageError(
            f"torchrun started {local} of {world} processes on this machine; give every machine "
            "the same --nproc-per-node"
        )
    started = {"num_gpus": local, "num_machines": world // local}
    for name, number in started.items():
        given = getattr(args, name)
        if given not in (1, number):
            raise UsageError(
                f"--{name.replace('_', '-')} {given}, but torchrun started {number}; leave the "
                "option out"
            )
    vars(args).update(started, machine_rank=rank // local)


def launch(main: Callable, arguments: tuple, args: Namespace, device: str) -> None:
    """Call ``main(*arguments)`` in every process of a run, and return when all have finished.

    Args:
        main: a function that other processes can import.
        arguments: its arguments, which can be pickled.
        args: the command line, after :func:`follow_torchrun`.
        device: the model's device.

    Raises:
        UsageError: a process was killed.
        SystemExit: a process has failed.
        Stopped: SIGTERM or SIGINT stopped the run.
    """
    if args.num_gpus * args.num_machines <= 1:
        main(*arguments)
    elif started_by_torchrun():
        _join_group(device)
        _run_in_group(main, arguments)
    else:
        _spawn(main, arguments, args, device)


def _join_group(device: str) -> None:
    if device != "cpu":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("gloo" if device == "cpu" else "nccl", timeout=DEFAULT_TIMEOUT)
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    comm.synchronize()


def _spawn(main: Callable, arguments: tuple, args: Namespace, device: str) -> None:
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Detectron2 uses NCCL wherever it sees a GPU
    # This logger reports each process that it stops, before the cause is known.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    # 0; or the number of the signal that stopped the processes; or -1 if they have finished
    outcome = get_context("spawn").Value("i", 0)
    with pass_signals_on() as received:
        try:
            _launch(main, arguments, args, (outcome, received))
        except BaseException:
            if received.value:
                raise Stopped(received.value) from None
            raise
    if outcome.value > 0 or (received.value and outcome.value == 0):
        raise Stopped(outcome.value or received.value)


def _launch(main: Callable, arguments: tuple, args: Namespace, signals: tuple) -> None:
    try:
        # The processes start without Ctrl-C, as a thread's do that blocks it: it would interrupt
        # their imports with a traceback each. This one, the main thread, receives it.
        with ThreadPoolExecutor(1, initializer=block_ctrl_c) as pool:
            pool.submit(
                launch_processes,
                _run_spawned,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(main, arguments, get_start_method(), *signals),
            ).result()
    except ProcessRaisedException as error:
        if "EADDRINUSE" in error.msg:
            raise UsageError(
                f"--dist-url {args.dist_url}: the port is in use, perhaps by another run; give "
                "another one, or --dist-url auto on a single machine"
            ) from None
        sys.exit(error.msg.strip())  # the traceback of the process
    except ProcessExitedException as error:
        if error.exit_code == 1:
            sys.exit(1)  # one_message() has printed why
        how = error.signal_name or f"exit code {error.exit_code}"
        raise UsageError(
            f"the process of rank {args.machine_rank * args.num_gpus + error.error_index} ended "
            f"with {how}, so the others were stopped (SIGKILL often means that memory ran out)"
        ) from None


def _run_spawned(
    main: Callable, arguments: tuple, start_method: str, outcome: Any, received: Any
) -> None:
    # A spawned process spawns its data loaders' workers too, each of which then imports everything
    # again, for every evaluation. The launcher's method, on Linux a fork, costs no such time.
    set_start_method(start_method, force=True)
    with one_message():
        try:
            if received.value:  # before this process could receive it
                raise Stopped(received.value)
            unblock_ctrl_c()
            _run_in_group(main, arguments)
            outcome.value = -1
        except Stopped as stop:  # another exit code than 0 would end the other processes
            outcome.value = stop.signal
            dist.destroy_process_group()


def _run_in_group(main: Callable, arguments: tuple) -> None:
    if dist.get_backend() == "gloo" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // comm.get_local_size()))
    logging.getLogger("detectron2.engine.train_loop").addFilter(_delay_lost_connection)
    main(*arguments)
    dist.destroy_process_group()


@contextmanager
def one_message() -> Iterator[None]:
    """End a program with one message, however many processes fail.

    The first process of a machine reports a user's mistake at once. The others wait, and report it
    only if the first has not met it. A process that lost its connection to another one waits too,
    so that the other one or the launcher can report the cause.
    """
    logging.getLogger("detectron2.engine.train_loop").addFilter(_is_no_usage_error)
    try:
        yield
    except UsageError as error:
        message = f"{running_program()}: error: {error}"
        if not (started_by_torchrun() or dist.is_initialized()):
            sys.exit(message)
        if not _is_first():
            time.sleep(GRACE_SECONDS)
        print(message, file=sys.stderr, flush=True)
        os._exit(1)  # a normal exit takes seconds, in which the others would report it too
    except KeyboardInterrupt:  # before or after the training, which stops in its own way
        if not dist.is_initialized() or _is_first():
            print(f"{running_program()}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if _is_lost_connection(error):
            time.sleep(GRACE_SECONDS)
        raise


def _is_first() -> bool:
    return is_first_on_machine() if started_by_torchrun() else comm.get_local_rank() == 0


def _is_no_usage_error(record: logging.LogRecord) -> bool:
    """A log filter that drops tracebacks of a user's mistake."""
    return not (record.exc_info and isinstance(record.exc_info[1], UsageError))


def _delay_lost_connection(record: logging.LogRecord) -> bool:
    """A log filter that delays records of a lost connection, as :func:`one_message` does."""
    if record.exc_info and _is_lost_connection(record.exc_info[1]):
        time.sleep(GRACE_SECONDS)
    return True


def _is_lost_connection(error: BaseException | None) -> bool:
    """Whether a collective operation failed, as it does when another process has ended."""
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def distribute_model(model: nn.Module, **options) -> nn.Module:
    """Detectron2's ``create_ddp_model``, which here also takes a model on the CPU."""
    if next(model.parameters()).device.type == "cpu":
        options["device_ids"] = None  # only GPUs have device ids
    return create_ddp_model(model, **options)
