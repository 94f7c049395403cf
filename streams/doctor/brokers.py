"""Whether the brokers answer: at the addresses of the settings, and at those that they name themselves."""

import asyncio
import contextlib
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.doctor.finding import Finding, fail, ok
from streams.settings import Settings

TIMEOUT = 5.0  # seconds until a broker has answered
ANSWER = 5_000  # the same in milliseconds


async def reachable(settings: Settings) -> list[Finding]:
    """Whether each address of BROKER accepts connections. One that does is enough."""
    servers = settings.bootstrap_servers
    problems = await asyncio.gather(*(_problem(*_host_and_port(server)) for server in servers))
    bad = [f"{server}: {problem}" for server, problem in zip(servers, problems, strict=True) if problem]
    if not bad:
        return [ok("broker", f"{', '.join(servers)} accept{'s' if len(servers) == 1 else ''} connections")]
    fix = "start the broker, or set TASTESTREAM_BROKER to its host and port; a firewall in between has to let this machine through"
    return [fail("broker", f"no connection to {'; '.join(bad)}", fix)]


async def cluster(settings: Settings) -> tuple[AIOKafkaAdminClient | None, Finding]:
    """A connected client, and whether the brokers speak Kafka with it; None if they do not. The caller closes it."""
    admin = AIOKafkaAdminClient(**settings.aiokafka(), request_timeout_ms=ANSWER)
    try:
        async with asyncio.timeout(2 * TIMEOUT):
            await admin.start()  # asks the addresses of BROKER alone, which may be the only ones that can be reached
    except (KafkaError, TimeoutError, OSError) as error:
        await admin.close()
        return None, fail(
            "broker", f"{settings.broker} does not answer as Kafka: {_reason(error)}", _security(settings)
        )
    named = [(str(one.host), int(one.port)) for one in admin._client.cluster.brokers()]
    return admin, await _advertised(named)


async def _advertised(named: Sequence[tuple[str, int]]) -> Finding:
    """Whether the brokers can be reached at the addresses that they tell clients."""
    problems = await asyncio.gather(*(_problem(host, port) for host, port in named))
    bad = [f"{host}:{port} ({problem})" for (host, port), problem in zip(named, problems, strict=True) if problem]
    if bad:
        return fail(
            "broker",
            f"the brokers tell clients to use {', '.join(bad)}, which this machine cannot reach",
            "set advertised.listeners of the brokers to addresses that this machine can reach, or use their listener for it "
            "(TASTESTREAM_BROKER)",
        )
    return ok("broker", f"Kafka answers, {len(named)} broker{'' if len(named) == 1 else 's'}")


async def _problem(host: str, port: int) -> str:
    """Why an address accepts no connection; "" if it does."""
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer within {TIMEOUT:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ""


def _host_and_port(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _security(settings: Settings) -> str:
    return (
        f"SECURITY_PROTOCOL is {settings.security_protocol}: set it to what this port of the broker speaks, with SASL_USERNAME, "
        "SASL_PASSWORD and TLS_CA_FILE where it asks for them"
    )
