"""The fourth stage: results as tables, sentences and charts, in text and on a page.

tables         figures as text in cells
words          conclusions, and what the figures cannot show
markdown       `report.md`, and the table on the terminal
charts         SVG charts; needs Matplotlib
page           `report.html` and `compare.html`; needs Jinja. Only these two need the extra `train`
side_by_side   a comparison of runs, in text
written        writes all files of a run's folder
"""
