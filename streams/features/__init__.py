"""`picture-features`: what backbones made of pictures, written once and shared by all embed workers and bundles.

records.py   keys and values of the topic
"""
