"""Faults on real Kafka: whatever dies, stands still, fills up or comes twice, one verdict says what was lost. See `stage.py`."""
