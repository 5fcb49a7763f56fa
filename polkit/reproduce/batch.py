"""A batch of runs: papermill executions on a dask cluster, one record each, none of them ever made twice."""

import os
import tempfile
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
import torch
from distributed import Client, LocalCluster, as_completed, get_worker
from papermill.exceptions import PapermillExecutionError

from polkit.book.chapters import drop_progress
from polkit.experiments.published import find_notebooks
from polkit.proof import made_alone, sweep, write_text_whole
from polkit.reproduce.records import read_record, record_of, write_record
from polkit.reproduce.runs import Run, planned_runs


def reproduce(
    results: Sequence[str] = ("all",),
    *,
    task: str = "digits",
    repeats: int = 5,
    out: Path = Path("build/reproduce"),
    common: Mapping[str, object] | None = None,
    lengths: Sequence[int] = (),
    scheduler: str | None = None,
    workers: int | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> int:
    """Makes the runs behind these results that have no finished record in `out` yet; how many of all have failed.

    scheduler: the address of a running dask cluster, whose workers need polkit and one `$POLKIT_HOME` in common;
    default, a cluster of this machine · workers: processes of that cluster (default: one per core, or per GPU) ·
    force: make runs again that have a finished record · dry_run: only print what would be done.
    Other arguments as in `planned_runs`. Raises BlockingIOError if another batch is writing to `out`.
    """
    # A run has its core to itself; proofs are made before the spoofs that need them.
    runs = planned_runs(results, task, repeats, common=dict(common or {}) | {"workers": 1}, lengths=lengths)
    on_gpu = str(dict(common or {}).get("device", "")).startswith("cuda")
    finished = set() if force else {run.name for run in runs if is_finished(out, run)}
    todo = [run for run in runs if run.name not in finished]
    print(f"{len(runs)} runs, {len(finished)} of them finished before; records in {out}")
    if dry_run:
        for run in runs:
            print(f"  {'finished' if run.name in finished else 'to do':8}  {run.name}")
        return 0
    with made_alone(out, wait=False):
        sweep(out)
        return len(_made(todo, out, scheduler, workers, on_gpu)) if todo else 0


def _made(todo: Sequence[Run], out: Path, scheduler: str | None, workers: int | None, on_gpu: bool) -> list[Run]:
    """Makes these runs, and tells of each as it ends; those that have failed."""
    begun, failed = time.perf_counter(), []
    with connected(scheduler, workers, on_gpu) as client:
        for number, (run, record) in enumerate(_executed(client, todo, out), 1):
            left = (time.perf_counter() - begun) / number * (len(todo) - number)
            word = "FAILED" if record["status"] == "failed" else f"{record['run_seconds']:.1f} s"
            print(f"[{number}/{len(todo)}] {run.name}: {word}; about {spoken_time(left)} left", flush=True)
            if record["status"] == "failed":
                failed.append(run)
                print(f"    {run.experiment}.ipynb: {record['error']}", flush=True)
    print(f"{len(todo) - len(failed)} of {len(todo)} runs in {spoken_time(time.perf_counter() - begun)}")
    return failed


def is_finished(out: Path, run: Run) -> bool:
    record = read_record(out, run.name)
    return record is not None and record["status"] == "finished"


def spoken_time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@contextmanager
def connected(scheduler: str | None, workers: int | None, on_gpu: bool) -> Iterator[Client]:
    """A client of the cluster at an address, or of one on this machine that ends with the batch."""
    if scheduler:
        with Client(scheduler) as client:
            yield client
        return
    count = workers or (torch.cuda.device_count() if on_gpu else os.cpu_count()) or 1
    # No memory limit: a worker over its share would be killed, and the notebook's kernel does not count in it anyway.
    with (
        LocalCluster(
            n_workers=count, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _executed(client: Client, runs: Sequence[Run], out: Path) -> Iterator[tuple[Run, dict]]:
    """Each run with its record, written as soon as it is there; so is the executed copy of its notebook.

    A spoof is handed out only when its proof's record is written here: a worker that dies then takes nothing with it
    that anybody waits for.
    """
    folder = find_notebooks() / "experiments"
    sources = {run.experiment: (folder / f"{run.experiment}.ipynb").read_text() for run in runs}
    batch = uuid.uuid4().hex  # a cluster may still remember the runs of another batch
    going, named, waiting = as_completed(), {}, defaultdict(list)
    places = {run.name: number for number, run in enumerate(runs)}

    def hand_out(run: Run) -> None:
        key = f"{run.name}-{batch}"
        named[key] = run
        # One that had to wait keeps its place in the plan, which has the longest first.
        going.add(
            client.submit(
                execute,
                run.experiment,
                dict(run.parameters),
                sources[run.experiment],
                key=key,
                priority=-places[run.name],
            )
        )

    def failure(run: Run, error: str) -> dict:
        return record_of(run.experiment, dict(run.parameters), None, error, 0.0)

    for run in runs:
        if run.needs in places:
            waiting[run.needs].append(run)
        else:
            hand_out(run)
    for future in going:
        run = named[future.key]
        problem = future.exception()  # a dead kernel or worker: no cell of the notebook's is to blame
        if problem is None:
            record, executed = future.result()
            copy = out / "notebooks" / f"{run.name}.ipynb"
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_text_whole(copy, executed)
        else:
            record = failure(run, f"{type(problem).__name__}: {problem}")
        future.release()
        ended = deque([(run, record)])
        while ended:
            run, record = ended.popleft()
            write_record(out, run.name, record)
            yield run, record
            for later in waiting.pop(run.name, []):
                if record["status"] == "finished":
                    hand_out(later)
                else:
                    ended.append((later, failure(later, f"{run.name}, which it needs, failed: {record['error']}")))


def execute(experiment: str, parameters: dict, source: str) -> tuple[dict, str]:
    """In a worker: one notebook through papermill. Returns its record and its executed copy.

    A cell that fails gives a failed record, not an exception: the batch goes on.
    """
    begun, error = time.perf_counter(), None
    with tempfile.TemporaryDirectory() as folder, own_gpu(parameters):
        given, executed = Path(folder, "given.ipynb"), Path(folder, "executed.ipynb")
        given.write_text(source)
        try:
            papermill.execute_notebook(
                str(given),
                str(executed),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                extra_arguments=["--log-level=40"],
            )
        except PapermillExecutionError as problem:
            error = f"{problem.ename}: {problem.evalue}"
        text = without_progress(executed.read_text())
    return record_of(experiment, parameters, text, error, time.perf_counter() - begun), text


@contextmanager
def own_gpu(parameters: Mapping[str, object]) -> Iterator[None]:
    """Shows a run on `cuda` the one GPU of its worker: the n-th worker of a machine has the n-th.

    A worker of a cluster whose scheduler has assigned GPUs (Slurm does) keeps those.
    """
    name, before = "CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count() if parameters.get("device") == "cuda" else 0
    if before is not None or count < 2:
        yield
        return
    os.environ[name] = str(int(get_worker().name) % count)  # a LocalCluster calls its workers 0, 1, 2, …
    try:
        yield
    finally:
        del os.environ[name]


def without_progress(text: str) -> str:
    notebook = nbformat.reads(text, as_version=4)
    drop_progress(notebook)
    return nbformat.writes(notebook)
