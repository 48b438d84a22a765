"""Training on two machines: network namespaces with host names of their own, joined by a cable, with a shared folder.

The commands are those of docs/cluster.md. The second machine may only read the shared folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import test_distributed as distributed
from test_distributed import SECONDS, SIX_STEPS, assert_same_run, finished, six_steps
from waiting import wait_until

__all__ = ["six_steps"]  # a fixture
pytestmark = pytest.mark.slow

HOSTS = "127.0.0.1 localhost\n10.77.0.1 machine-a\n10.77.0.2 machine-b\n"
# The arguments: host name, hosts file, folder that can only be read or "", command.
ENTER = """
hostname "$1" && mount --bind "$2" /etc/hosts || exit 99
test -z "$3" || { mount --bind "$3" "$3" && mount -o remount,bind,ro "$3"; } || exit 99
shift 3
exec "$@"
"""


@dataclass(frozen=True)
class Machine:
    """A network namespace.

    Attributes:
        name: its host name.
        namespace: name of the namespace.
        home: folder of its own.
        read_only: folder that it can only read; None: it can write everywhere.
    """

    name: str
    namespace: str
    home: Path
    read_only: Path | None = None

    def start(self, *words: str, options: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start torchrun with one process, which runs a function of `test_distributed`."""
        inside = ["sh", "-c", ENTER, "sh", self.name, str(self.home / "hosts"), str(self.read_only or "")]
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend",
                    "c10d", "--rdzv-endpoint", "machine-a:29500", "--rdzv-id", "1", *options, str(distributed.__file__)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(self.home / "cache")}
        command = ["ip", "netns", "exec", self.namespace, "unshare", "--uts", *inside, *launcher, *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def kill(self) -> None:
        """Kill all its processes."""
        for process in ip("netns", "pids", self.namespace).split():
            subprocess.run(["kill", "-KILL", process], check=False, capture_output=True)


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def shared(tmp_path: Path, tiny_dataset: Path) -> Path:
    """A folder that both machines see, with the data."""
    shutil.copytree(tiny_dataset.parent, tmp_path / "shared" / "data")
    return tmp_path / "shared"


@pytest.fixture
def machines(tmp_path: Path, shared: Path) -> Iterator[tuple[Machine, Machine]]:
    if os.name != "posix" or os.geteuid() or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("two machines in network namespaces need Linux, root, iproute2 and util-linux")
    prefix, made = f"fastscnn-{secrets.token_hex(4)}", []
    for letter in "ab":
        home = tmp_path / letter
        home.mkdir()
        (home / "hosts").write_text(HOSTS)
        made.append(Machine(f"machine-{letter}", f"{prefix}-{letter}", home, shared if letter == "b" else None))
    with ExitStack() as stack:
        try:
            for machine in made:
                ip("netns", "add", machine.namespace)
                stack.callback(ip, "netns", "delete", machine.namespace)
                stack.callback(machine.kill)
            ip("link", "add", "cable", "netns", made[0].namespace, "type", "veth", "peer", "name", "cable", "netns",
               made[1].namespace)
            for number, machine in enumerate(made, start=1):
                ip("-n", machine.namespace, "address", "add", f"10.77.0.{number}/24", "dev", "cable")
                for device in ("lo", "cable"):
                    ip("-n", machine.namespace, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
        yield made[0], made[1]


def words(shared: Path) -> list[str]:
    return ["train", "debug", str(shared / "data" / "dataset.toml"), "--out", str(shared / "run"), "--resume", *SIX_STEPS]


def test_two_machines_give_the_weights_of_one(
    machines: tuple[Machine, Machine], shared: Path, six_steps: Path
) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(machine.start("command_line", *words(shared))) for machine in machines]
        first, second = map(finished, processes)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout.count("with the last weights") == 1
    assert second.stdout == ""
    assert_same_run(shared / "run", six_steps)
    assert json.loads((shared / "run" / "run.json").read_text())["processes"] == 2
    assert {path.name for path in shared.iterdir()} == {"data", "run"}


@pytest.mark.parametrize("rank", [0, 1])
def test_two_machines_go_on_after_a_killed_process(
    machines: tuple[Machine, Machine], shared: Path, six_steps: Path, rank: int, tmp_path: Path
) -> None:
    marker, options = tmp_path / "marker", ["--max-restarts", "3"]
    call = ["killed", str(marker), str(rank), "3", *words(shared)]
    with ExitStack() as stack:
        processes = [stack.enter_context(machine.start(*call, options=options)) for machine in machines]
        first, second = map(finished, processes)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert marker.exists()
    assert first.stderr.count("nothing was saved yet") == 1
    assert_same_run(shared / "run", six_steps)


def test_a_machine_fails(
    machines: tuple[Machine, Machine], shared: Path, six_steps: Path, tmp_path: Path
) -> None:
    """All processes of the second machine end without a word, then those of the first; started again on both, it goes on.

    torchrun on the first machine sometimes ends by itself, and sometimes waits.
    """
    marker, options = tmp_path / "marker", ["--max-restarts", "3"]
    call = ["stopped", str(marker), "1", "3", *words(shared)]
    with ExitStack() as stack:
        first, second = (stack.enter_context(machine.start(*call, options=options)) for machine in machines)
        wait_until(lambda: marker.exists() or first.poll() is not None, SECONDS)
        for machine in reversed(machines):
            machine.kill()
        assert finished(first).returncode == finished(second).returncode == -signal.SIGKILL
    assert marker.exists()
    assert [line["step"] for line in distributed.log(shared / "run")] == [2]
    with ExitStack() as stack:
        again = [stack.enter_context(machine.start(*call, options=options)) for machine in machines]
        done = list(map(finished, again))
    assert [one.returncode for one in done] == [0, 0], done[0].stderr + done[1].stderr
    assert "nothing was saved yet" not in done[0].stderr
    assert_same_run(shared / "run", six_steps)
