"""The demo: everything on one machine, in under a minute, without Kafka, Java or Docker.

broker.py     the embedded broker: Tansu, Kafka-compatible, in memory
catalogue.py  the products, their photos, and the story of three shoppers
pictures.py   the small web server that the photos come from
processes.py  starting and stopping what is not in this process
screen.py     what is shown
run.py        starts all of it, plays the story, stops all of it
"""
