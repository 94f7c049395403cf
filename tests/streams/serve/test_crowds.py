"""Many connections to a serve worker: they take bounded memory, and it goes on answering those for whom there is room."""

import resource
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from streams.runtime.open_files import SPARE, connections_permitted
from tests.benchmarks.streams import crowd, opened
from tests.kafka.broker import free_port
from tests.kafka.system import wait_until
from tests.streams.serve.process import bags_on_disk, get, worker
from tests.usage import resident_mb

CROWD = 10_000


def statuses(clients: list[socket.socket]) -> Counter[bytes]:
    return Counter(client.recv(4096)[9:12] for client in clients)


def test_with_the_default_limits_1500_clients_take_little_and_leave_room(tmp_path: Path) -> None:
    bags_on_disk(tmp_path)
    port = free_port()
    with worker(tmp_path, port, serve_rate=0) as process, ExitStack() as stack:
        wait_until(lambda: get(port, "/ready")[0] == 200, message=(tmp_path / "log").read_text)
        before = resident_mb(process.pid)
        clients = [stack.enter_context(opened(port)) for _ in range(1500)]
        assert statuses(clients) == {b"200": 50, b"429": 950, b"503": 500}
        assert resident_mb(process.pid) - before < 60
        for client in clients[60:100]:
            client.close()
        wait_until(lambda: get(port, "/v1/users/ada/recommendations")[0] == 200)
        assert get(port, "/v1/status")[1]["streams"] == 50


@pytest.mark.slow
def test_10000_streams_take_little_and_do_not_slow_the_others_down(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < CROWD + SPARE:
        pytest.skip(f"the hard limit of open files is below {CROWD + SPARE}")
    connections_permitted(CROWD)
    found = crowd(tmp_path, CROWD, idle=5)
    assert found.after - found.before < 250
    assert found.closed <= found.after + 5
    assert sorted(found.beside)[len(found.beside) // 2] < 5 * sorted(found.alone)[len(found.alone) // 2]
    assert found.processor < 0.4


def test_a_low_limit_of_open_files_means_fewer_connections_and_a_line_in_the_log(tmp_path: Path) -> None:
    bags_on_disk(tmp_path)
    port = free_port()
    through = ("sh", "-c", 'ulimit -n 400; exec "$@"', "sh")
    with worker(tmp_path, port, through=through) as process, ExitStack() as stack:
        log = tmp_path / "log"
        wait_until(lambda: get(port, "/ready")[0] == 200, message=log.read_text)
        clients = [stack.enter_context(opened(port, "/live")) for _ in range(600)]
        assert statuses(clients) == {b"200": 200, b"503": 400}
        for client in clients:
            client.close()
        wait_until(lambda: get(port, "/live")[0] == 200)
        assert (
            "SERVE_CONNECTIONS is 1000, but the limit of open files leaves room for 200 connections" in log.read_text()
        )
        assert "cannot be accepted" not in log.read_text() and process.poll() is None
