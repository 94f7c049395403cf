"""The first stage: events of a data set go to Kafka, and an answer to each event comes back.

events           the events of a prepared data set, in time order; users sampled
messages         an event as a message, and its id
pacing           when an event may be sent
picture_server   serves local pictures to the workers
event_answer     what one event caused
player           sends events and collects answers; one event of a user at a time
playing          puts the above together, with the progress on the terminal
"""
