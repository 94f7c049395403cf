"""Which addresses a picture may be fetched from.

The URL in an event is written by a stranger, and the worker that fetches it stands inside the operator's network: without
a rule, an event could make it call the cloud's metadata service, or a database next door. The rule is that only the
public internet may be called, and the networks that the operator names. This module is the rule, with no I/O; `fetch`
applies it to the text of the URL, to the answer of the resolver, and to the socket that is about to be connected.
"""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from yarl import URL

from streams.exceptions import FetchError

type_IPAddress = IPv4Address | IPv6Address
