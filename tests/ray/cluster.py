"""A real Ray cluster whose nodes are as far apart as machines are, on this one; needs root and `ip`.

Each node has a network namespace with an address of its own on a bridge, and namespaces of its own for processes,
mounts and the host name: /tmp and /dev/shm are its own, and all that runs there ends with its first process. The head
is the machine that the tests and their operators run on, at the bridge's address.

A cluster is claimed by the lock of a file, which ends with the process that holds it, so two runs never meet, and what
an earlier one has left, if it was killed, is removed by the next.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import psutil

from claims import FOLDER, TMP, bridge_of, claim, folder_of, remove, run_ip
from processes import is_alive, kill
from ray_process import TIMEOUT_SECONDS, RayProcess, wait_until

_RAY: Final = str(Path(sys.executable).with_name("ray"))

_ENV: Final = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A node that is cut off is given up within seconds, and gives itself up as soon.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "3000",
    "RAY_grpc_client_keepalive_timeout_ms": "3000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
}

_NEEDED: Final = {Path(__file__).resolve().parents[2], Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
"""Where the project, its environment and Python are: these may lie in /tmp."""

_KNOWS: Final = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
while sum(node["Alive"] for node in ray.nodes()) != int(sys.argv[2]):
    time.sleep(0.1)
"""
"""Asks Ray for its nodes until it has as many as it is told."""

# What runs first on a node: it mounts what is the node's own, runs Ray, and reaps whoever loses its parent. Of this
# machine's /tmp the node sees only the folders that are named until `--`.
_FIRST: Final = """
set -e
own="$2"
echo "$1" > /proc/sys/kernel/hostname
shift 2
while [ "$1" != -- ]; do mkdir -p "$own/$1"; mount --bind "/tmp/$1" "$own/$1"; shift; done
shift
mount --rbind "$own" /tmp; mount -t tmpfs -o size=256m tmpfs /dev/shm
mount --bind /tmp/hosts /etc/hosts; mount --bind /dev/null /etc/resolv.conf
"$@" &
while :; do wait; sleep 1; done
"""


def why_not() -> str | None:
    """Tell what this machine lacks for a cluster; None if nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "nsenter", "setpriv", "unshare") if shutil.which(tool) is None]
    if not Path(_RAY).exists():
        missing.append("ray")
    return f"not installed: {', '.join(missing)}" if missing else None


class Node:
    """A machine elsewhere, with a raylet on it."""

    def __init__(self, cluster: "RayCluster", name: str, options: list[str], env: Mapping[str, str]) -> None:
        number = len(cluster.nodes) + 1
        self.name = name
        self.address = f"{cluster.subnet}.{10 + number}"
        self._cluster = cluster
        self._link = f"{cluster.bridge}n{number}"
        self._options = options
        self._env = dict(env)
        self._space = f"{cluster.bridge}-{name}"
        self.tmp = cluster.folder / "nodes" / name
        """Its /tmp, as it is seen from here."""
        self.tmp.mkdir(parents=True)
        # Or who asks for names would wait for an answer from where nothing answers.
        (self.tmp / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {name}\n")
        run_ip("netns", "add", self._space)
        run_ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._space)
        run_ip("link", "set", self._link, "master", cluster.bridge, "up")
        run_ip("-n", self._space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run_ip("-n", self._space, "link", "set", "lo", "up")
        run_ip("-n", self._space, "link", "set", "eth0", "up")
        run_ip("-n", self._space, "route", "add", "default", "via", cluster.host)
        self.switched_on: RayProcess | None = None
        self.was_cut = False  # since it was switched on: Ray may have given it up, and its raylet is about to end

    @property
    def node_folder(self) -> Path:
        """Where cortex keeps what it needs on the node, as it is seen from here."""
        return self.tmp / "cortex-node"

    @property
    def ray(self) -> RayProcess:
        """What runs on it."""
        assert self.switched_on is not None, f"{self.name} does not run"
        return self.switched_on

    def start(self, *, waits: bool = True, **env: str) -> "Node":
        """Switch it on: Ray joins the cluster, with these variables too."""
        self.was_cut = False
        shared = [self._cluster.shared, *(folder for folder in _NEEDED if folder.is_relative_to(TMP))]
        command = [
            *("nsenter", f"--net=/run/netns/{self._space}"),
            *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", _FIRST, "sh", self.name, str(self.tmp)),
            *(*(str(folder.relative_to(TMP)) for folder in shared), "--"),
            *(_RAY, "start", "--block", "--address", self._cluster.address, "--node-ip-address", self.address),
            *("--object-store-memory=80000000", "--include-log-monitor=false", *self._options),
        ]
        variables = {
            **self._cluster.env,
            **self._env,
            **env,
            "CORTEX_NODE_FOLDER": str(TMP / "cortex-node"),
            "HOME": str(TMP),
        }
        self.switched_on = RayProcess(command, variables, self._cluster.folder / f"{self.name}.log")
        if waits:
            self.switched_on.wait()
        return self

    def kill(self) -> None:
        """Switch it off: nothing that runs on it has a chance to say anything."""
        ray, self.switched_on = self.switched_on, None
        if ray is not None:
            kill(*ray.processes())
            ray.process.kill()
            ray.process.wait()
            wait_until(lambda: not ray.processes(), f"nothing runs on {self.name}")

    def kill_raylet(self) -> None:
        """Kill -9 the raylet, and nothing else."""
        self.ray.one("raylet/raylet").kill()

    def process(self, pid: int) -> psutil.Process:
        """Give the process that has this id there."""
        for process in self.ray.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                    if line.startswith("NSpid:") and line.split()[-1] == str(pid):
                        return process
        raise AssertionError(f"there is no process {pid} on {self.name}")

    def stations(self) -> list[psutil.Process]:
        """Give all processes of cortex there."""
        return [*self.ray.all_named("-m cortex.station"), *self.ray.all_named("worker/start.py")]

    def cut(self) -> None:
        """Take its network away: nothing arrives, and nobody is told so."""
        self.was_cut = True
        run_ip("link", "set", self._link, "down")

    def mend(self) -> None:
        """Bring its network back."""
        run_ip("link", "set", self._link, "up")

    def remove(self) -> None:
        """Take it away for good."""
        self.kill()
        run_ip("netns", "del", self._space)


class RayCluster:
    """A head and nodes, see the module; `remove` it in the end."""

    def __init__(self) -> None:
        self._number, self._lock = claim()
        self.bridge = bridge_of(self._number)
        self.subnet = f"10.86.{self._number}"
        self.host = f"{self.subnet}.1"
        """The address of this machine, as the nodes reach it."""
        self.address = f"{self.host}:{6400 + self._number}"
        """The address of Ray's head."""
        self.folder = folder_of(self._number)
        self.shared = self.folder / "shared"
        """A folder that all machines see at this path."""
        self.nodes: list[Node] = []
        self._head: RayProcess | None = None
        self._head_options: list[str] = []
        try:
            self.shared.mkdir(parents=True)
            token = self.shared / "token"
            token.write_text(os.urandom(32).hex())
            token.chmod(0o600)
            # Left out: what was set to have tests not write where they should not, and what belongs to another Ray.
            kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHONDONT"))}
            ours = {"RAY_AUTH_TOKEN_PATH": str(token), FOLDER: str(self.folder)}
            self.env: dict[str, str] = {**kept, **_ENV, **ours}
            """What is to be in the environment of all that speaks with Ray: the operator, too."""
            run_ip("link", "add", self.bridge, "type", "bridge")
            run_ip("addr", "add", f"{self.host}/24", "dev", self.bridge)
            run_ip("link", "set", self.bridge, "up")
        except BaseException:
            self.remove()
            raise

    @property
    def has_head(self) -> bool:
        """Tell whether the head was started, and not killed since."""
        return self._head is not None

    @property
    def head(self) -> RayProcess:
        """What runs as Ray's head."""
        assert self._head is not None, "the head does not run"
        return self._head

    def start_head(self, *options: str, **env: str) -> None:
        """Start Ray's head on this machine, always at the same address; no Workers find room there."""
        # The ports are those of this cluster, since on this machine others may have theirs.
        self._head_options = list(options) or self._head_options
        ports = {
            "port": 6400,
            "dashboard-port": 6800,
            "ray-client-server-port": 7200,
            "dashboard-agent-listen-port": 7600,
        }
        # Ray takes those on its nodes for heads of this machine if it sees them, so it sees only its own processes.
        command = [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(_RAY, "start", "--head", "--block", "--node-ip-address", self.host, "--dashboard-host=127.0.0.1"),
            *(f"--{name}={first + self._number}" for name, first in ports.items()),
            *("--min-worker-port=0", "--max-worker-port=0", "--temp-dir", str(self.folder / "ray")),
            *("--num-cpus=0", "--memory=1000000000", "--object-store-memory=80000000", "--include-log-monitor=false"),
            *self._head_options,
        ]
        self._head = RayProcess(command, {**self.env, **env}, self.folder / "head.log")
        self._head.wait()

    def wait_until_known(self) -> None:
        """Wait until Ray has the nodes that run and no others: it would place Workers on one that was switched off."""
        count = 1 + sum(node.switched_on is not None for node in self.nodes)
        command = [sys.executable, "-c", _KNOWS, self.address, str(count)]
        subprocess.run(command, env=self.env, check=True, timeout=TIMEOUT_SECONDS)

    def kill_head(self) -> None:
        """Kill -9 all of the head at once: the control store is lost with it."""
        head, self._head = self._head, None
        if head is not None:
            processes = head.processes()
            head.process.kill()
            kill(*processes)
            head.process.wait()
            wait_until(lambda: not any(map(is_alive, processes)), "the head has gone")

    def add_node(
        self,
        name: str,
        *,
        cpus: float,
        memory: int = 4 * 10**9,
        resources: Mapping[str, float] | None = None,
        env: Mapping[str, str] | None = None,
        waits: bool = True,
    ) -> Node:
        """Add a machine with this much for Workers, and switch it on; by default, wait until Ray has started there."""
        options = [f"--num-cpus={cpus:g}", f"--memory={memory}", f"--resources={json.dumps(dict(resources or {}))}"]
        node = Node(self, name, options, env or {})
        self.nodes.append(node)
        return node.start(waits=waits)

    def remove(self) -> None:
        """Remove all of it. May be repeated."""
        remove(self._number)
        for ray in [self._head, *(node.switched_on for node in self.nodes)]:
            if ray is not None:
                ray.process.wait()
        self.folder.with_suffix(".lock").unlink(missing_ok=True)
        self._lock.close()


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Give a cluster, and remove it, whatever happens."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    cluster = RayCluster()
    before = signal.signal(signal.SIGTERM, interrupt)  # as Ctrl-C does, so that fixtures end
    try:
        yield cluster
    finally:
        signal.signal(signal.SIGTERM, before)
        cluster.remove()
