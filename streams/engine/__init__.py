"""Faust's extension points, filled in so that nothing is lost and nothing stalls unseen: app, consumer, producer, recovery.

Faust keeps the group membership, the assignment, the tables' topics and the life cycle of everything. What it reads,
commits and recovers goes through here, because its own ways may pass an event that is still in flight. The work itself is
in `embed/` and `profile/`.
"""
