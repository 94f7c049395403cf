"""What answers hold. The OpenAPI document is generated from these types. Pure.

users.py        what is recommended to a user, why, and the bag that it comes from
privacy.py      the erasure of a user, and the export of everything that is held of one
items.py        an item as answers have it: recommended, or similar to another one
catalogue.py    the items of the catalogue: as they are listed, as they arrive, and those with the same picture
taste.py        the taste that pictures show
interactions.py what became of events that were sent
stream.py       bags that changed, as a stream says it
status.py       the state of the worker, and what a problem is
model.py        the bundles: what they were made from, and how they do
letters.py      dead letters, and what became of their events
values.py       numbers and times with limits, which many answers have
"""
