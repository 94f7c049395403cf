"""What a replay found, told: results (the data) -> tables, words, charts -> Markdown, the terminal, a page.

results     `results.json`, with every figure; written and read
tables      the figures as text in cells
words       what to take away, and what the figures cannot say
markdown    `report.md`, and the table on the terminal
charts      needs Matplotlib
page        `report.html`, needs Jinja: both come with the extra `train`, and only here
"""
