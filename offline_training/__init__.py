"""Offline work, from data sets to model bundles: training, evaluation, comparison and replay.

Imports go one way: `offline_training` -> `streams` -> `model`. Training needs torch; data sets, topics and replays do not.
"""
