"""`tastestream taste`: what somebody's own photos say of their taste, on this machine alone.

taken.py    when a photo was taken
photos.py   the photos in some folders, and what else is there
profile.py  the result
work.py     from photos to the result
screen.py   the result on a terminal
page.py     the result as a page with the photos
cli.py      the options
"""
