"""A batch of runs: papermill executions on a dask cluster, one record each, none of them ever made twice."""

import json
import logging
import math
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import papermill
import torch
from dask import config
from distributed import Client, as_completed, get_worker
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from polkit.book.chapters import KERNEL, drop_progress, fast_kernels, shown_data
from polkit.experiments.published import find_notebooks
from polkit.proof import made_alone, write_whole
from polkit.proof.storage import UNFINISHED, kept_in, require_writable
from polkit.reproduce.measure import MEASUREMENT_TYPE
from polkit.reproduce.records import Record, images_of, read_record, require_same_images, write_record
from polkit.reproduce.runs import Run, planned_runs
from polkit.training import Conditions, whole
from polkit.training.conditions import require_machine
from polkit.training.jobs import starting_workers

# Of dask, whose profiler and ticks would take from the runs what they may have: a quarter of a core, with two workers.
# A daemon may have no processes, and a worker forks its kernels.
SETTINGS = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "500ms"}
SETTINGS |= {"distributed.worker.daemon": False}
LATE = "the time was over"  # no failure: no record is kept, and the next batch makes the run


def reproduce(
    results: Sequence[str] = ("all",),
    *,
    task: str = "digits",
    repeats: int = 5,
    out: Path = Path("build/reproduce"),
    common: Mapping[str, object] | None = None,
    lengths: Sequence[int] = (),
    spoof_interval: int = 0,
    scheduler: str | None = None,
    workers: int | None = None,
    time_limit: float = math.inf,
    dry_run: bool = False,
) -> int:
    """Makes the runs behind these results that have no finished record in `out` yet; returns how many have failed.

    results, task, repeats, common, lengths, spoof_interval: as in `planned_runs`
    scheduler: the address of a running dask cluster, whose workers need polkit and one `$POLKIT_HOME` in common
    workers: processes of a cluster of this machine, where there is no scheduler (default: one per core, or per GPU)
    time_limit: minutes, after which no run is begun and those that go on are stopped; the next batch makes them
    dry_run: only print what would be done
    Raises BlockingIOError if another batch is writing to `out`.
    """
    whole("workers", 1 if workers is None else workers, 1)
    common = {**(common or {}), "workers": 1}  # a run has its core to itself
    runs = planned_runs(results, task, repeats, common=common, lengths=lengths, spoof_interval=spoof_interval)
    images = {name: images_of(name) for name in sorted({str(run.parameters["task"]) for run in runs})}
    require_same_images(out, images)
    records = {run.name: read_record(out, run.name) for run in runs}
    finished = {name for name, record in records.items() if record and record.finished}
    print(f"{len(runs)} runs, {len(finished)} of them finished before; records in {out}")
    if dry_run:
        for run in runs:
            print(f"  {'finished' if run.name in finished else 'to do':8}  {run.name}")
        return 0
    todo = [run for run in runs if run.name not in finished]
    if not scheduler:  # whose workers may have what this machine lacks
        require_machine(Conditions(**{name: common[name] for name in ("device", "threads") if name in common}))
    require_writable(out / "records")
    with made_alone(out, wait=False):
        for place in (out, out / "records", out / "notebooks"):
            for left in place.glob(f"*{UNFINISHED}"):  # of writers that were killed
                left.unlink()
        if not todo:
            return 0
        with connected(scheduler, workers, str(common.get("device")).startswith("cuda")) as client:
            return _run_all(client, todo, images, out, time.time() + 60 * time_limit)


def connected(scheduler: str | None, workers: int | None, on_gpu: bool) -> Client:
    """A client of the cluster at an address, or of one on this machine that ends with the client."""
    if scheduler:
        return Client(scheduler)
    count = workers or (torch.cuda.device_count() if on_gpu else os.cpu_count()) or 1
    # No memory limit: a worker over its share would be killed, and the notebook's kernel does not count in it anyway.
    # No logs: what becomes of a run stands in its record, and that a batch ends or is interrupted is no fault.
    how = {"threads_per_worker": 1, "dashboard_address": ":0", "memory_limit": 0, "silence_logs": logging.CRITICAL}
    with config.set(SETTINGS), starting_workers():
        return Client(n_workers=count, **how)


def _run_all(client: Client, runs: Sequence[Run], images: Mapping[str, str], out: Path, deadline: float) -> int:
    """Writes a record of each run and the executed copy of its notebook as soon as they are there; counts failures."""
    folder, begun, failed, late = find_notebooks() / "experiments", time.perf_counter(), 0, 0
    batch = uuid.uuid4().hex  # a cluster may still remember the runs of another batch
    named, futures = {f"{run.name}-{batch}": run for run in runs}, {}
    for place, (key, run) in enumerate(named.items()):
        source = (folder / f"{run.experiment}.ipynb").read_text(encoding="utf-8")
        before = futures.get(run.needs), futures.get(run.after)
        futures[run.name] = client.submit(execute_once, run, source, batch, deadline, *before, key=key, priority=-place)
    for number, future in enumerate(as_completed(list(futures.values())), 1):
        run = named[future.key]
        problem = future.exception()  # of a worker that died several times, say: no cell of the notebook is to blame
        record, executed = (outcome(run, repr(problem)), "") if problem else future.result()
        del futures[run.name]
        if record.error == LATE:
            late += 1
            continue
        write_record(out, run.name, replace(record, images=images[str(run.parameters["task"])]))
        if executed:
            (out / "notebooks").mkdir(exist_ok=True)
            write_whole(out / "notebooks" / f"{run.name}.ipynb", executed)
        left = (time.perf_counter() - begun) / number * (len(runs) - number)
        word = f"{record.run_seconds:.1f} s" if record.finished else "FAILED"
        print(f"[{number}/{len(runs)}] {run.name}: {word}; about {spoken_time(left)} left", flush=True)
        if not record.finished:
            failed += 1
            print(f"    {run.experiment}.ipynb: {record.error}", flush=True)
    shutil.rmtree(kept_in("runs") / batch, ignore_errors=True)
    left = f"; {LATE} for {late}, which the next batch makes" if late else ""
    print(f"{len(runs) - failed - late} of {len(runs)} runs in {spoken_time(time.perf_counter() - begun)}{left}")
    return failed


def outcome(run: Run, error: str | None, values: dict | None = None, seconds: float = 0.0) -> Record:
    status, values = ("failed", {}) if error else ("finished", values)
    return Record(run.experiment, dict(run.parameters), status, error, values, seconds)


def spoken_time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def execute_once(run: Run, source: str, batch: str, deadline: float, needed=None, _after=None) -> tuple[Record, str]:
    """`execute`, unless the run that this one needs has failed; kept for dask, which asks again for what it lost."""
    if time.time() > deadline:
        return outcome(run, LATE), ""
    if needed and not needed[0].finished:
        return outcome(run, f"{run.needs}, which it needs, failed: {needed[0].error}"), ""
    kept = kept_in("runs") / batch / f"{run.name}.json"
    if not kept.exists():
        record, executed = execute(run, source, deadline)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, json.dumps([asdict(record), executed]))
    record, executed = json.loads(kept.read_text(encoding="utf-8"))
    return Record(**record), executed


def execute(run: Run, source: str, deadline: float = math.inf) -> tuple[Record, str]:
    """A notebook through papermill: its record (failed if a cell fails or kills its kernel) and its executed copy."""
    begun, error = time.perf_counter(), None
    show_own_gpu(run)
    with fast_kernels(), tempfile.TemporaryDirectory() as folder:
        given, executed = Path(folder, "given.ipynb"), Path(folder, "executed.ipynb")
        given.write_text(source, encoding="utf-8")
        settings = KERNEL | {"execution_timeout": None, "request_save_on_cell_execute": True}  # kernels may die
        if deadline < math.inf:  # each cell may take what is left then; nbclient takes 0 for no limit at all
            settings["timeout_func"] = lambda _: max(1, math.ceil(deadline - time.time()))
        try:
            papermill.execute_notebook(given, executed, dict(run.parameters), **settings)
        except CellTimeoutError:
            return outcome(run, LATE), ""
        except PapermillExecutionError as problem:
            error = f"{problem.ename}: {problem.evalue}"
        except DeadKernelError as problem:
            error = f"DeadKernelError: {problem}"
        notebook = nbformat.read(executed, as_version=4)
    drop_progress(notebook)
    measured = [dict(data[MEASUREMENT_TYPE]) for data in shown_data(notebook) if MEASUREMENT_TYPE in data]
    if not measured:
        error = error or "the notebook ended without a measurement"
    return outcome(run, error, *measured[:1], seconds=time.perf_counter() - begun), nbformat.writes(notebook)


def show_own_gpu(run: Run) -> None:
    """Shows a run on `cuda` one GPU: the n-th to worker n, unless a scheduler (such as Slurm) has assigned others."""
    count = torch.cuda.device_count() if run.parameters.get("device") == "cuda" else 0
    if count > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(int(get_worker().name) % count)
