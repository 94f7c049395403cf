"""Apache Kafka on this machine, for tests: the jars, and what makes a broker start quickly.

Needs `java` (17 or newer) and, the first time, `mvn`. Everything goes to `.cache/kafka/` of the repository and is shared by
all runs.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

KAFKA_VERSION = "4.1.2"
CACHE_FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "kafka"
DOWNLOAD_TIMEOUT = 300.0  # seconds

# slf4j-simple writes to standard error, which goes to the broker's log file.
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


class KafkaUnavailable(Exception):
    """Kafka cannot run here: no java, no mvn, no download, or a broker that does not start."""


def java() -> str:
    """Path of the Java runtime. Raises KafkaUnavailable when there is none."""
    found = shutil.which("java")
    if found is None:
        raise KafkaUnavailable("java is not on the PATH: install a Java runtime, 17 or newer, to run Kafka")
    return found


def kafka(*options: str) -> list[str]:
    """The first words of a command that runs one of Kafka's main classes. options: of the JVM."""
    # One garbage collection thread: the broker shares the machine with what is being tested.
    return [java(), "-XX:+UseSerialGC", *options, "-cp", f"{jars()}{os.sep}*"]


def jars() -> Path:
    """The folder with Kafka's jars, fetched once. Raises KafkaUnavailable."""
    folder = CACHE_FOLDER / KAFKA_VERSION
    with drafted(folder) as draft:
        if draft is not None:
            _fetch(draft)
    return folder


def prepared_folder() -> Path:
    """Where the things that one broker prepared for all others lie. A new Java runtime gets a new one."""
    installed = int(Path(java()).resolve().stat().st_mtime)
    return CACHE_FOLDER / f"{KAFKA_VERSION}-prepared-{installed}"


@contextmanager
def drafted(folder: Path) -> Generator[Path | None]:
    """A draft that becomes `folder` when the block ends without an exception; None when the folder exists already.

    One process drafts, and the others wait for it.
    """
    if folder.is_dir():
        yield None
        return
    CACHE_FOLDER.mkdir(parents=True, exist_ok=True)
    with (CACHE_FOLDER / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            yield None
            return
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=CACHE_FOLDER) as temporary:
            draft = Path(temporary) / folder.name
            draft.mkdir()
            yield draft
            draft.rename(folder)


def end_of(text: str, lines: int = 30) -> str:
    """The last lines of a log."""
    return "\n".join(text.splitlines()[-lines:])


def _fetch(folder: Path) -> None:
    mvn = shutil.which("mvn")
    if mvn is None:
        raise KafkaUnavailable(
            f"mvn is not on the PATH: install Maven, to fetch Kafka {KAFKA_VERSION} to {CACHE_FOLDER}"
        )
    pom = folder.parent / "pom.xml"
    pom.write_text(POM, "utf-8")
    command = [mvn, "--batch-mode", "--quiet", "--file", str(pom), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DOWNLOAD_TIMEOUT
        )
    except subprocess.TimeoutExpired as e:
        raise KafkaUnavailable(f"mvn did not fetch Kafka {KAFKA_VERSION} within {DOWNLOAD_TIMEOUT:.0f} s") from e
    if done.returncode != 0:
        raise KafkaUnavailable(f"mvn could not fetch Kafka {KAFKA_VERSION}:\n{end_of(done.stdout)}")
