"""The items that may be recommended, and what is known of them.

opening.py      opens all of it
follower.py     `items` -> the catalogue
features.py     `picture-features` -> codes -> the catalogue
catalogue.py    answers, and takes changes from the topics and from the bags
update.py       a batch of changes
columns.py      in memory: what filters ask for
recent.py       in memory: how many bags touched each item lately
place_index.py  in memory: from ids to places
store.py        on disk: everything else
"""
