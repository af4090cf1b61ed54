"""What a run ends with: ``metrics.json`` for machines and a self-contained ``index.html`` for people.

content.py         what a report is about, as validated frozen models
curves.py          a training curve of any length as a few hundred points
configuration.py   each stage's settings beside what the preset would have set
metrics.py         the machine-readable summary; the page shows no number that is not in it
figure.py          a matplotlib figure as inline SVG in the page's own colours
plots.py           the charts of what was measured
draw.py            what does not depend on the run: drawn once, and kept in the artifact
drawn.py           the artifact's data
history_chart.py   the chart of the store's last runs, another one for each run
formats.py         numbers, durations and texts as people read them
render.py          a run's own page, from the artifact, the run and the templates beside it; without matplotlib
"""
