"""Kernels forked from a process that has imported polkit already: none of them waits for its imports."""

import atexit
import gc
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from multiprocessing.util import Finalize
from threading import RLock, Thread

import pandas as pd
from ipykernel.kernelapp import IPKernelApp
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from tqdm import tqdm

from polkit.training.jobs import starting_workers

LAUNCHER, NAME = "ipykernel_launcher", "forked"
# The first optimiser that is made imports torch._dynamo, and the first digit scikit-learn.
IMPORTED = [__name__, "ipykernel.debugger", "torch._dynamo", "sklearn.datasets", "polkit.book.panels"]


@contextmanager
def forked_kernels() -> Iterator[None]:
    """Kernels of Python are forked in the block, and end with it; for Linux, since elsewhere forks are not safe."""
    factory = KernelProvisionerFactory.instance()
    usual = factory.default_provisioner_name
    factory.provisioners[NAME] = EntryPoint(NAME, f"{__name__}:Forking", factory.GROUP_NAME)
    factory.default_provisioner_name = NAME
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # the debugger's note on how it was started
    forkserver.set_forkserver_preload(IMPORTED)
    # The server asks who is left only after its imports, which take seconds: whoever ends before that, ends it.
    server = forkserver._forkserver
    Finalize(None, lambda: server._forkserver_pid and os.kill(server._forkserver_pid, signal.SIGKILL), exitpriority=0)
    try:
        with starting_workers():
            forkserver.ensure_running()
        yield
    finally:
        factory.default_provisioner_name = usual
        for left in multiprocessing.active_children():
            if isinstance(left, ForkedKernel):  # whoever waited for it was interrupted
                left.kill()


class Forking(LocalProvisioner):
    """Forks a Python kernel, and starts any other as jupyter_client does."""

    async def launch_kernel(self, cmd, **kwargs):
        if LAUNCHER not in cmd:
            return await super().launch_kernel(cmd, **kwargs)
        given = cmd[cmd.index(LAUNCHER) + 1 :], kwargs["env"], kwargs.get("cwd") or os.getcwd()
        self.process = ForkedKernel(target=run_kernel, args=given, daemon=True)  # none outlives this process
        self.process.start()
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class ForkedKernel(ForkServerProcess):
    """The process of a kernel, with what jupyter_client asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def run_kernel(arguments: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
    """What the forked process does, until the kernel is shut down or the process that asked for it is gone."""
    multiprocessing.current_process().daemon = False  # it may have processes of its own
    Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True).start()
    pd.set_option("display.max_columns", 20)  # as in a kernel; elsewhere, tables fit a terminal
    gc.freeze()  # what was imported stays: no collection needs to look at it
    tqdm.set_lock(RLock())  # its own is a semaphore, which a killed process leaves behind
    os.setsid()
    os.environ.update(environment)
    os.chdir(folder)
    IPKernelApp.launch_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"], log_level=50)  # no notes
    # Multiprocessing leaves out what is to be done at exit, as with temporary folders; closing channels may hang.
    atexit.unregister(IPKernelApp.instance().close)
    atexit._run_exitfuncs()
