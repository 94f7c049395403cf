"""Run `python -m offline_training`, which is `tastestream train`."""

from offline_training.cli import train_app

train_app(prog_name="python -m offline_training")
