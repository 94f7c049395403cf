"""The pages of several workers become one page that Prometheus accepts, and each sample says whose it is."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.metrics.merged import families_of, merged

EMBED = """\
# HELP tastestream_events_total Events processed.
# TYPE tastestream_events_total counter
tastestream_events_total{worker="embed"} 7.0
# HELP process_open_fds Number of open files.
# TYPE process_open_fds gauge
process_open_fds 21.0
"""
PROFILE = """\
# HELP tastestream_events_total Events processed.
# TYPE tastestream_events_total counter
tastestream_events_total{worker="profile"} 5.0
# HELP process_open_fds Number of open files.
# TYPE process_open_fds gauge
process_open_fds 30.0
# HELP a_seconds Seconds.
# TYPE a_seconds histogram
a_seconds_bucket{le="1.0"} 1.0
a_seconds_bucket{le="+Inf"} 2.0
a_seconds_count 2.0
a_seconds_sum 9.5
"""


def test_each_family_is_there_once_and_each_sample_has_its_worker() -> None:
    page = merged([families_of("embed", EMBED), families_of("profile", PROFILE)]).decode()
    assert page.count("# TYPE tastestream_events_total counter") == 1
    samples = {
        (one.name, one.labels["worker"], one.labels.get("le")): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }
    assert samples == {
        ("tastestream_events_total", "embed", None): 7,
        ("tastestream_events_total", "profile", None): 5,
        ("process_open_fds", "embed", None): 21,
        ("process_open_fds", "profile", None): 30,
        ("a_seconds_bucket", "profile", "1.0"): 1,
        ("a_seconds_bucket", "profile", "+Inf"): 2,
        ("a_seconds_count", "profile", None): 2,
        ("a_seconds_sum", "profile", None): 9.5,
    }


def test_a_page_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="not_authenticated"):
        families_of("embed", '{"reason": "not_authenticated"} {')
