"""`tastestream retrain`: the nightly loop, from the interactions topic to a bundle that is compared with the current one.

cli         the options
run         the loop; read it from top to bottom
features    features of pictures: from the topic, from the work folder, and only then from the pictures
training    data set to bundle; the last days are held out
replaying   both bundles over the held-out days, and their figures
verdict     the rule, and `comparison.json`
report      the report for people
"""
