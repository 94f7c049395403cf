"""What makes a bundle, offline, with torch. `model` serves it; nothing of `streams` is imported."""
