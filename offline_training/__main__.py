"""`python -m offline_training`: the same as `tastestream train`."""

from offline_training.cli import train_app

train_app(prog_name="python -m offline_training")
