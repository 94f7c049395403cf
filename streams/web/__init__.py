"""Fetches pictures from URLs that strangers write, without harm to this network, this machine, or the hosts.

addresses.py        which URLs and addresses may be called; pure
guards.py           applies these rules where names are resolved and sockets are opened
limits.py           what a fetch may cost
response_size.py    how large the headers of a response may be
fetch.py            one picture over HTTP, within these limits
circuit_breaker.py  stops requests to a host that keeps failing; pure
host_limiter.py     how many requests each host gets at a time
large_places.py     how many large pictures of each host are read at a time
"""
