"""The third stage: from answers to figures.

baselines     what needs no bundle: popularity, and the trends of the last days
fields        figures by field
prequential   which recommendation counts at each target, and its figures
targets       `targets.parquet`: the figures of each target
summaries     means over groups of targets, with intervals over users
field_summaries   the same for the figures by field, each method against the 28-day trend
learnt        whether a bundle has learnt from what is played
samples       a few users, with their bags and recommendations
beside        other bundles, measured at the same targets without being served
evaluate      all of the above, for one run
results       `results.json`
comparing     results of several runs over the same events
"""
