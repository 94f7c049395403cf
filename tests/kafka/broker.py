"""One real Apache Kafka broker for a test: KRaft mode, one node, on 127.0.0.1, as a child process.

For tests only: no replication, and no security but for the users of a second listener. `distribution.py` says
what has to be installed.
"""

import asyncio
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.kafka.distribution import KafkaUnavailable, drafted, end_of, kafka, prepared_folder

CLUSTER_ID = "dGFzdGVzdHJlYW0tdGVzdA"  # 16 bytes in URL-safe base64; no two test brokers ever meet, so they share it
START_TIMEOUT = 180.0  # seconds: 2 s on an idle machine, many times that on a busy one
STOP_TIMEOUT = 60.0  # seconds between SIGTERM and SIGKILL
ARCHIVE_TIMEOUT = 120.0  # seconds that the first broker may take to write its class archive when it ends
POLL_INTERVAL = 0.05  # seconds between two looks at a broker that is starting

# Below the range that Linux gives to outgoing connections (32768 and up). While a broker is down for a restart, no client
# of the test gets its port, and no client connects to itself by trying a closed port again and again.
PORTS = range(20_000, 32_000)

CONSOLE_TOOLS = {
    "producer": "org.apache.kafka.tools.ConsoleProducer",
    "consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "topics": "org.apache.kafka.tools.TopicCommand",
    "acls": "org.apache.kafka.tools.AclCommand",
    "configs": "kafka.admin.ConfigCommand",
    "groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}

# A broker looks 30 s after its start, and then every five minutes, for records that are older than the retention of their topic. The
# events of tests are years old.
# A broker without processor time for the length of its session counts as dead: topics cannot be created then. After a SIGKILL the
# controller keeps the restarted broker out for as long. It writes nothing while nothing changes: by default it does twice a second.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{port}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=12000
metadata.max.idle.interval.ms=0
log.retention.ms=-1
log.retention.check.interval.ms=86400000
log.initial.task.delay.ms=86400000
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.backoff.ms=1000
"""

# A second listener, on which clients have names and may do what ACLs allow. On the first one everything is allowed.
# A third one is like the first, but names an address that nobody can reach.
WITH_USERS = """\
listeners=CLIENTS://127.0.0.1:{port},USERS://127.0.0.1:{users_port},LOST://127.0.0.1:{lost_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{port},USERS://127.0.0.1:{users_port},LOST://127.0.0.1:1
listener.security.protocol.map=CLIENTS:PLAINTEXT,USERS:SASL_PLAINTEXT,LOST:PLAINTEXT,CONTROLLER:PLAINTEXT
listener.name.users.sasl.enabled.mechanisms=PLAIN
listener.name.users.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required {users};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""

# Kills the broker when the pipe to the test process closes, which happens however that process ends. PR_SET_PDEATHSIG
# would be shorter, but it fires when the *thread* that started the broker ends. A pidfd cannot hit another process that
# got the same number.
WATCH = """
import os, signal, sys
try:
    broker = os.pidfd_open(int(sys.argv[1]))
    sys.stdin.buffer.read()
    signal.pidfd_send_signal(broker, signal.SIGKILL)
except ProcessLookupError:
    pass
"""


class KafkaBroker:
    """A broker that keeps its data in `folder`, on the same port for as long as this object lives.

    Use it as a context manager, or call `start` and `stop`. `kill` is the crash of a fault test; the next `start` continues
    with what reached the disk. The methods block: in a coroutine call them with `asyncio.to_thread`.
    """

    def __init__(self, folder: Path, *, brief: bool = False, users: Mapping[str, str] | None = None) -> None:
        """Create a broker that does not run yet.

        Args:
            folder: for its configuration, data and log.
            brief: for a broker that handles thousands of records, not millions. The JVM then compiles quickly instead of
                well, which saves a third of the processor time of a start.
            users: passwords by name, for a second listener at `users_bootstrap` (SASL_PLAINTEXT, PLAIN). They may do what
                ACLs allow, at first nothing. There is then a third one on `lost_port`, which tells clients an address that
                nobody can reach.
        """
        self.folder = folder
        self.port = free_port()
        self.controller_port = free_port()
        self.users_port = free_port()
        self.lost_port = free_port()
        self._users = users
        self._jvm = ("-XX:TieredStopAtLevel=1",) if brief else ()
        self._broker: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def users_bootstrap(self) -> str:
        return f"127.0.0.1:{self.users_port}"

    @property
    def log_path(self) -> Path:
        return self.folder / "broker.log"

    @property
    def running(self) -> bool:
        return self._broker is not None and self._broker.poll() is None

    @property
    def pid(self) -> int:
        """Process id. Raises RuntimeError when the broker does not run."""
        if self._broker is None:
            raise RuntimeError(f"the broker at {self.bootstrap} does not run")
        return self._broker.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start the broker and return when it lists itself as alive, within `timeout` seconds.

        Raises KafkaUnavailable with the end of the log when it dies or is too slow; then nothing is left running.
        """
        if self.running:
            raise RuntimeError(f"the broker at {self.bootstrap} runs already")
        prepared = _prepared()
        if not (self.folder / "server.properties").exists():
            self._configure(prepared / "formatted")
        self._start(timeout, *self._jvm, f"-XX:SharedArchiveFile={prepared / 'classes.jsa'}")

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """SIGTERM, and SIGKILL when it still runs after `timeout` seconds. Does nothing when it does not run."""
        self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """SIGKILL: what a crash leaves behind. Does nothing when it does not run."""
        self._end(signal.SIGKILL, STOP_TIMEOUT)

    def console(self, tool: str, *args: str, stdin: str = "", timeout: float = 60.0) -> str:
        """Run one of Kafka's command-line tools (a key of CONSOLE_TOOLS) against this broker; its standard output.

        Raises CalledProcessError when it fails, with its standard error in `stderr`. The consumer ends only with
        `--max-messages` or `--timeout-ms`.
        """
        jvm = ("-Xmx256m", "-XX:TieredStopAtLevel=1", f"-XX:SharedArchiveFile={_prepared() / 'classes.jsa'}")
        command = [*kafka(*jvm), CONSOLE_TOOLS[tool], "--bootstrap-server", self.bootstrap, *args]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=True).stdout

    def _configure(self, formatted: Path | None = None) -> None:
        """Write the configuration and a formatted data folder. `server.properties` appears last, when everything is there.

        formatted: a folder to copy, which is faster than running Kafka's StorageTool.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / "server.properties.draft"
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        properties = PROPERTIES + (WITH_USERS if self._users else "")  # the last line of a key counts
        ports = ("port", "controller_port", "users_port", "lost_port")
        values = {name: getattr(self, name) for name in ports}
        users = " ".join(f'user_{name}="{password}"' for name, password in (self._users or {}).items())
        draft.write_text(properties.format(data=data, users=users, **values), "utf-8")
        if formatted is None:
            _format(draft)
        else:
            shutil.copytree(formatted, data)
        draft.rename(self.folder / "server.properties")

    def _start(self, timeout: float, *jvm: str) -> None:
        with self.log_path.open("ab") as log:
            self._broker = subprocess.Popen(
                [*kafka("-Xmx512m", *jvm), "kafka.Kafka", str(self.folder / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._watch = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", WATCH, str(self._broker.pid)],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            self._wait_until_alive(time.monotonic() + timeout)
        except BaseException:  # an interrupted test included: never leave a broker behind
            self.kill()
            raise

    def _wait_until_alive(self, deadline: float) -> None:
        while True:
            if not self.running:
                raise KafkaUnavailable(f"the broker died while it started; {self._log_tail()}")
            if _listens(self.port) and _is_alive(self.bootstrap):
                return
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"the broker did not answer in time; {self._log_tail()}")
            time.sleep(POLL_INTERVAL)

    def _end(self, sign: signal.Signals, timeout: float) -> None:
        if self._broker is not None:
            self._broker.send_signal(sign)
            try:
                self._broker.wait(timeout)
            except subprocess.TimeoutExpired:
                self._broker.kill()
                self._broker.wait()
            self._broker = None
        if self._watch is not None:
            self._watch.communicate()  # closes its pipe, and it ends
            self._watch = None

    def _log_tail(self) -> str:
        return f"end of {self.log_path}:\n{end_of(self.log_path.read_text('utf-8', errors='replace'))}"


def _prepared() -> Path:
    """The folder with what one broker prepares for all others, made once.

    It holds `formatted`, an empty data folder, and `classes.jsa`, the classes that a broker loads in the form in which the
    JVM maps them into memory. Both together save two thirds of the processor time of a start.
    """
    folder = prepared_folder()
    with drafted(folder) as draft:
        if draft is not None:
            first = KafkaBroker(draft.parent / "first")
            first._configure()
            shutil.copytree(first.folder / "data", draft / "formatted")
            jvm = ("-XX:TieredStopAtLevel=1", f"-XX:ArchiveClassesAtExit={draft / 'classes.jsa'}")
            first._start(START_TIMEOUT, *jvm)
            first.stop(ARCHIVE_TIMEOUT)
    return folder


def _format(properties: Path) -> None:
    """Run Kafka's StorageTool. Raises KafkaUnavailable with what it printed."""
    done = subprocess.run(
        [*kafka("-Xmx128m"), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise KafkaUnavailable(f"Kafka's StorageTool could not format a data folder:\n{end_of(done.stdout)}")


_reserved: set[int] = set()
_reservations: list[IO[bytes]] = []


def free_port() -> int:
    """A port that is free, and that no outgoing connection gets while its server is down for a restart.

    It belongs to this process until it ends, although its server has not bound it yet, or is down: a lock on the byte of that
    number in a file tells all other test processes of this machine.
    """
    if not _reservations:
        _reservations.append((Path(tempfile.gettempdir()) / f"tastestream-test-ports-{os.getuid()}").open("ab"))
    for port in random.SystemRandom().sample(PORTS, k=200):
        if port in _reserved:
            continue
        try:
            fcntl.lockf(_reservations[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:  # another process has it
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka binds: TIME_WAIT is no obstacle
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _reserved.add(port)
        return port
    raise KafkaUnavailable(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop}")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _is_alive(bootstrap: str) -> bool:
    """Whether the broker lists itself. It takes connections a little earlier, but then refuses to create topics."""
    with ThreadPoolExecutor(1) as thread:  # `start` may be called under a running event loop
        return thread.submit(asyncio.run, lists_a_broker(bootstrap)).result()


async def lists_a_broker(bootstrap: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2_000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
