"""One real Apache Kafka broker for a test: KRaft mode, one node, on 127.0.0.1, as a child process.

Needs `java` (17 or newer) and, the first time, `mvn`: the jars go to `.cache/kafka/<version>/` of the repository and
are shared by all runs. Not a way to run Kafka for anything but tests: no replication, no security.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

KAFKA_VERSION = "4.1.2"
CACHE_FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "kafka"
CLUSTER_ID = "dGFzdGVzdHJlYW0tdGVzdA"  # 16 bytes in URL-safe base64; no two test brokers ever meet, so one will do
DOWNLOAD_TIMEOUT = 300.0  # seconds
START_TIMEOUT = 90.0  # seconds: 4 s on an idle machine, many times that on a busy one
STOP_TIMEOUT = 20.0  # seconds between SIGTERM and SIGKILL
POLL_INTERVAL = 0.05  # seconds between two looks at a broker that is starting

# Below the range that Linux gives to outgoing connections (32768 and up): while a broker is down for a restart, no
# client of the test can be given its port, and none can connect to itself by trying a closed port again and again.
PORTS = range(20_000, 32_000)

CONSOLE_TOOLS = {
    "producer": "org.apache.kafka.tools.ConsoleProducer",
    "consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "topics": "org.apache.kafka.tools.TopicCommand",
    "groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}

# slf4j-simple writes to the standard error, which goes to the broker's log file.
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tastestream</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

# After a SIGKILL the controller keeps a restarted broker out until the session of the old one ends: 9 s by default.
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
broker.session.timeout.ms=3000
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.backoff.ms=1000
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


class KafkaUnavailable(Exception):
    """Kafka cannot be had here: no java, no mvn, no download, or a broker that does not start."""


class KafkaBroker:
    """A broker that keeps its data in `folder`, on the same port for as long as this object lives.

    Use it as a context manager, or call `start` and `stop`. `kill` is the crash of a fault test; `start` after it goes
    on with what reached the disk. The methods block: in a coroutine call them with `asyncio.to_thread`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.controller_port = free_port(besides=self.port)
        self._broker: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.folder / "broker.log"

    @property
    def running(self) -> bool:
        return self._broker is not None and self._broker.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that runs. Raises RuntimeError when there is none."""
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
        java = _java()
        if not (self.folder / "server.properties").exists():
            self._format(java)
        with self.log_path.open("ab") as log:
            self._broker = subprocess.Popen(
                [*java, "-Xmx512m", "kafka.Kafka", str(self.folder / "server.properties")],
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
        command = [*_java(), "-Xmx256m", CONSOLE_TOOLS[tool], "--bootstrap-server", self.bootstrap, *args]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=True).stdout

    def _format(self, java: list[str]) -> None:
        """Write the configuration and the empty log folder; `server.properties` appears last, when all is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / "server.properties.draft"
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        draft.write_text(PROPERTIES.format(port=self.port, controller_port=self.controller_port, data=data), "utf-8")
        done = subprocess.run(
            [*java, "-Xmx128m", "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(draft)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise KafkaUnavailable(f"Kafka's StorageTool could not format {data}:\n{_tail(done.stdout)}")
        draft.rename(self.folder / "server.properties")

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
        return f"end of {self.log_path}:\n{_tail(self.log_path.read_text('utf-8', errors='replace'))}"


def jars() -> Path:
    """The folder with Kafka's jars, fetched once.

    Concurrent runs may all fetch; each into a folder of its own, and the first rename wins. Raises KafkaUnavailable.
    """
    folder = CACHE_FOLDER / KAFKA_VERSION
    if folder.is_dir():
        return folder
    mvn = shutil.which("mvn")
    if mvn is None:
        raise KafkaUnavailable(f"mvn is not on the PATH: install Maven, to fetch Kafka {KAFKA_VERSION} to {folder}")
    CACHE_FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{KAFKA_VERSION}-", dir=CACHE_FOLDER) as draft:
        pom = Path(draft) / "pom.xml"
        pom.write_text(POM, "utf-8")
        command = [mvn, "--batch-mode", "--quiet", "--file", str(pom), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={draft}/jars"]
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DOWNLOAD_TIMEOUT
            )
        except subprocess.TimeoutExpired as e:
            raise KafkaUnavailable(f"mvn did not fetch Kafka {KAFKA_VERSION} within {DOWNLOAD_TIMEOUT:.0f} s") from e
        if done.returncode != 0:
            raise KafkaUnavailable(f"mvn could not fetch Kafka {KAFKA_VERSION}:\n{_tail(done.stdout)}")
        try:
            (Path(draft) / "jars").rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder


def _java() -> list[str]:
    """The first words of a command that runs one of Kafka's main classes."""
    java = shutil.which("java")
    if java is None:
        raise KafkaUnavailable("java is not on the PATH: install a Java runtime, 17 or newer, to run Kafka")
    # One collector thread: the broker shares the machine with what is being tested.
    return [java, "-XX:+UseSerialGC", "-cp", f"{jars()}{os.sep}*"]


def free_port(besides: int | None = None) -> int:
    """A port that nobody uses, and that no outgoing connection is given while its server is down for a restart."""
    for port in random.sample(PORTS, k=200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka binds: TIME_WAIT is no obstacle
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port != besides:
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
        return thread.submit(asyncio.run, _lists_a_broker(bootstrap)).result()


async def _lists_a_broker(bootstrap: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2_000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()


def _tail(text: str, lines: int = 30) -> str:
    return "\n".join(text.splitlines()[-lines:])
