"""`picture-features`: what backbones made of pictures, written once and shared by all embed workers and bundles.

records.py    keys and values of the topic
taking.py     which records are kept, and why others are not
position.py   how far the topic has been read, in a small file
follower.py   reads the topic in the background, for as long as a worker runs
producer.py   sends records for commands
sharing.py    what an embed worker has of all this: it publishes new features, and follows those of others
"""
