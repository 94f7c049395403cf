"""The number of files that this process may have open. Each connection is one."""

import resource

SPARE = 512  # files that are no connections: databases, the broker, decoder processes


def connections_permitted(wanted: int) -> int:
    """How many connections the limit of open files leaves room for, at most `wanted`.

    The soft limit is raised first, as far as the hard one permits. Of a very low limit, half is left to connections.
    """
    soft, hard = (_number(one) for one in resource.getrlimit(resource.RLIMIT_NOFILE))
    if soft < wanted + SPARE:
        soft = min(wanted + SPARE, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(wanted, max(soft - SPARE, soft // 2))


def _number(limit: int) -> int:
    return 2**63 - 1 if limit == resource.RLIM_INFINITY else limit
