"""Kinds of products (footwear, lighting, cookware) that MobileNet's own last layer tells of any picture, without training.

kinds.csv      the kinds, and the classes of MobileNet that belong to each
table.py       reads the table
graphs.py      adds the kinds to the networks of a bundle
measuring.py   how often the kinds are right
"""
