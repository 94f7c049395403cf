"""The demo: the whole system on one machine, in under a minute, without Kafka, Java or Docker.

broker.py     the embedded broker: Tansu, Kafka-compatible, in memory
catalogue.py  the products, their photos, and the story of three shoppers
pictures.py   a web server for the photos
processes.py  starts and stops other processes
screen.py     shows events and recommendations
run.py        starts everything, plays the story, stops everything
"""
