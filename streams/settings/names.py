"""Names at the broker: consumer groups, topics, and the namespace before them. Pure."""

import re

EMBED_GROUP = "tastestream-embed"
ITEMS_GROUP = f"{EMBED_GROUP}-items"  # of the embed workers too: they share the items of the shop
PROFILE_GROUP = "tastestream-profile"
BAGS_TABLE = "bags"
BAGS_CHANGELOG = f"{PROFILE_GROUP}-{BAGS_TABLE}-changelog"  # as Faust names it: group, table, "changelog"
GENERATIONS = "tastestream-generations"  # the topic that says which generation of the internal topics is in use
RESIZE = "tastestream-resize"  # transactional id of the command that moves the bags
CLIENT = "tastestream"  # for quotas and the broker's own logs

SEPARATOR = "-"  # a name with a dot and one with an underscore collide in the broker's metrics; hyphens never do
MAX_TOPIC = 249  # characters of a topic's name: the broker makes a folder of it
MAX_NAMESPACE = MAX_TOPIC - len(BAGS_CHANGELOG) - len(SEPARATOR)  # the longest of our names has to fit

_ILLEGAL = re.compile(r"[^a-zA-Z0-9._-]")


def in_namespace(namespace: str, name: str) -> str:
    """The name as it is at the broker: `shop-name` in the namespace `shop`, `name` without a namespace."""
    return f"{namespace}{SEPARATOR}{name}" if namespace else name


def of_generation(name: str, number: int) -> str:
    """The name of a group or a topic in a generation of the internal topics: `name-g2`, and `name` in the first one."""
    return name if number == 1 else f"{name}{SEPARATOR}g{number}"


def check_namespace(namespace: str) -> None:
    """Raises ValueError if names with this namespace are not names that Kafka accepts."""
    if not namespace:
        return
    _check_characters(namespace)
    if not (namespace[0].isalnum() and namespace[-1].isalnum()):
        raise ValueError(
            f"it has to begin and end with a letter or a digit; names get a {SEPARATOR!r} after it anyway, "
            f"as in {in_namespace('shop', EMBED_GROUP)}"
        )
    if len(namespace) > MAX_NAMESPACE:
        raise ValueError(
            f"it has {len(namespace)} characters, and may have {MAX_NAMESPACE}: "
            f"a topic's name may have {MAX_TOPIC}, and {BAGS_CHANGELOG} follows"
        )


def check_topic(name: str) -> None:
    """Raises ValueError if Kafka does not accept this name for a topic."""
    _check_characters(name)
    if name in {".", ".."}:
        raise ValueError("Kafka accepts no topic of that name")
    if len(name) > MAX_TOPIC:
        raise ValueError(f"it has {len(name)} characters, and a topic's name may have {MAX_TOPIC}")


def _check_characters(name: str) -> None:
    if illegal := _ILLEGAL.search(name):
        raise ValueError(
            f"it holds {illegal[0]!r}, and Kafka accepts only ASCII letters, digits, dots, underscores and hyphens"
        )
