"""Every setting of the running system, typed.

areas/       the settings themselves, by area: names, defaults, descriptions, and the rules that a value has to meet
settings.py  all of them as one class, and what follows from settings of several areas
values.py    how a value is written as text: quotes, lists, weights. Pure.
names.py     consumer groups, topics, and the namespace before them. Pure.
brokers.py   the brokers in the text of `BROKER`. Pure.
reading.py   where the values come from, and what a user is told about a wrong one
"""

from streams.settings.areas.bags import DEFAULT_TYPE_WEIGHTS, WeightedType
from streams.settings.reading import read_settings
from streams.settings.settings import PREFIX, Settings

__all__ = ["DEFAULT_TYPE_WEIGHTS", "PREFIX", "Settings", "WeightedType", "read_settings"]
