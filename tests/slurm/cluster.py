"""A SLURM cluster of one node on loopback, in a temporary folder, started by hand and ended by its process ids."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sinfo", "squeue", "sbatch", "scontrol", "scancel")
LIMIT = 30.0  # s for every call of a client

CONFIG = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=512
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
SwitchType=switch/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return what is not installed of SLURM and munge."""
    return [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]


@contextmanager
def cluster(folder: Path, cores: int) -> Iterator[Mapping[str, str]]:
    """Run a cluster of one node with ``cores`` (it may have fewer); yields the environment for its clients."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "SLURM_CONF": f"{folder}/slurm.conf"}
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    settings = {"host": host, "folder": folder, "cores": cores, "memory": 8000}
    settings |= {"controller": _free_port(), "node": _free_port()}
    (folder / "slurm.conf").write_text(CONFIG.format(**settings))
    # One "GPU", which SLURM counts and hands out like a real one.
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n")
    subprocess.run(["mungekey", f"--keyfile={folder}/key"], env=environment, check=True, timeout=LIMIT)
    munged = ["munged", "--foreground", "--force", f"--key-file={folder}/key", f"--socket={folder}/munge.socket"]
    munged += [f"--log-file={folder}/munged.log", f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/seed"]
    with ExitStack() as running:
        # A test run that is told to end (by timeout, say) leaves no daemon behind.
        running.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        for command in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-c"]):
            running.enter_context(_daemon(command, folder, environment))
        _wait_until_idle(host, environment, folder)
        yield environment


@contextmanager
def _daemon(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_idle(host: str, environment: Mapping[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    state = ""
    while time.monotonic() < deadline:
        try:
            state = client(environment, "sinfo", "--noheader", "--format=%t").strip()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            state = str(error)
        if state == "idle":
            return
        if state.startswith(("down", "drain", "unk")):
            subprocess.run(
                ["scontrol", "update", f"NodeName={host}", "State=RESUME"],
                env=environment,
                timeout=LIMIT,
                check=False,
                capture_output=True,
            )
        time.sleep(0.3)
    logs = "\n".join(f"{path}: {path.read_text()[-2000:]}" for path in sorted(folder.glob("*.log")))
    raise TimeoutError(f"the node is {state}\n{logs}")


def client(environment: Mapping[str, str], *command: str) -> str:
    """Call one of SLURM's programs and return what it says."""
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=LIMIT)
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
