"""Options that several commands share, and what they stand for."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polkit as pk
from polkit.training import AUGMENTATIONS, PRECISIONS

FORMATTER = partial(argparse.RawDescriptionHelpFormatter, max_help_position=32)


def add_command(commands, name: str, run: Callable[[argparse.Namespace], int], about: str,
                example: str) -> argparse.ArgumentParser:  # fmt: skip
    """A command among `commands`, what `add_subparsers` returned, whose help ends with an example."""
    command = commands.add_parser(
        name, help=about, description=about, epilog=f"example:\n  {example}", formatter_class=FORMATTER
    )
    command.set_defaults(command=run)
    return command


def add_task_options(command: argparse.ArgumentParser, default: str | None) -> None:
    shown = default or "that of the proof in --weights, else digits"
    command.add_argument("--task", default=default, help=f"digits, cifar10, cifar100, imagenet10, folder:PATH, "
                         f"with :first-half or :second-half if wanted (default {shown})")  # fmt: skip
    command.add_argument("--epochs", type=int, help="E, instead of the task's own")
    command.add_argument("--checkpoint-interval", type=int, help="k, instead of the task's own")


def add_conditions(command: argparse.ArgumentParser, augmentation: str) -> None:
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, … (default cpu)")
    command.add_argument("--precision", choices=PRECISIONS, default="float32")
    command.add_argument("--threads", type=int, default=1, help="of the CPU (default 1)")
    command.add_argument("--no-onednn", action="store_true", help="without the oneDNN kernels")
    command.add_argument("--compiled", action="store_true",
                         help="fuse each step with torch.compile: on some CPUs faster for ResNet-20, after a minute")
    command.add_argument("--augmentation", choices=AUGMENTATIONS, default=augmentation,
                         help=f"a replay's: as recorded, or drawn anew (default {augmentation})")  # fmt: skip


def chosen_conditions(options: argparse.Namespace) -> pk.Conditions:
    return pk.Conditions(device=options.device, precision=options.precision, threads=options.threads,
                         onednn=not options.no_onednn, augmentation=options.augmentation,
                         compiled=options.compiled)  # fmt: skip


def chosen_task(options: argparse.Namespace) -> pk.Task:
    if options.task is None:
        folder = Path(options.weights)
        task = pk.open_proof(folder).task if folder.is_dir() else pk.task("digits")
        if task.data.startswith("folder:"):
            raise ValueError(f"{folder} says that its images are {task.data!r}, not where: give --task folder:PATH")
    else:
        task = pk.task(options.task)
    wanted = {"epochs": options.epochs, "checkpoint_interval": options.checkpoint_interval}
    return task.replace(**{name: value for name, value in wanted.items() if value is not None})


def whole_or_all(text: str) -> int | str:
    if text != "all" and not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number from 1 up nor `all`")
    return text if text == "all" else int(text)
