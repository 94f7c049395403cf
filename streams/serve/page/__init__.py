"""The web page: files of the web platform (HTML, CSS, ES modules) that ask the HTTP API from a browser.

static.py  serves the files, and says what a browser may load for them
files/     the page itself; files/app.js is where to begin to read
"""
