"""Replay: plays a data set as a stream of events through Kafka, and measures the recommendations before each purchase.

The stages hand plain values on, in this order; imports go the other way:

    play/         events of the data set -> Kafka -> one `EventAnswer` per event
    answers/      the answers in memory and on disk; the answers that the events alone imply, computed offline; the latency
    evaluation/   answers -> figures at each target, means with intervals, sample users -> `ReplayResults`
    report/       results -> tables, Markdown, HTML

    run           `tastestream replay`: the four stages from top to bottom
    compare       `tastestream replay compare`: results of several runs side by side
    cli           the options of both
"""
