"""A bundle from a folder of classes alone: one sub-folder for each class, with some pictures in it. No events are needed.

folder.py      reads the folder, and says in one line what is wrong with it
head.py        the layer that names the class of a picture, and how sure it is
bundle.py      the bundle: the layer, and an aggregator fitted on simulated users
"""
