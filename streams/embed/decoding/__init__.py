"""Decodes pictures in processes of their own. The files are untrusted, and the decoders are C libraries.

A picture that never ends, takes too much memory or crashes its decoder costs one process and becomes one dead letter. The
worker holds the credentials and the connections; a decoder process has nothing but the pipe to its worker.

limits.py    what one picture may cost
messages.py  what the two processes send each other
seccomp.py   the filter that leaves a process a few system calls
sandbox.py   what a decoder process gives up before it reads its first picture
process.py   the decoder process: `python -P -m streams.embed.decoding.process`
decoder.py   one decoder process, as the worker sees it
turns.py     whose picture is decoded next
pool.py      a few of them, replaced when they die
"""
