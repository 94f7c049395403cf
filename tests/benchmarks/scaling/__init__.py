"""Scaling with the number of workers (`workers`) and of users in the state (`users`)."""
