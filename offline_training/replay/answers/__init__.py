"""The second stage: the answers of the workers, and those that the events alone imply.

table        answers in arrays, by the place of their events
journal      answers on disk, in the run's folder, from which a replay resumes
embeddings   embeddings of the pictures, computed here
expected     the answers of any bundle, computed offline from the events
agreement    whether the workers' answers equal the expected ones
latency      latency over the course of a run
"""
