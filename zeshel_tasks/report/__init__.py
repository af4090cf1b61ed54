"""The report of a run: ``metrics.json`` for programs and a self-contained ``index.html`` for people.

report_data.py     the data of a report, as validated frozen models
curves.py          thins a training curve to a few hundred points
configuration.py   compares each stage's settings with its preset
metrics.py         the machine-readable summary; every number on the page is in it
history.py         the scores of the store's last runs
chart.py           a line chart as data, which chart.html draws as SVG
charts.py          the charts of the report
formats.py         formats numbers, durations and texts for people
render.py          renders the page from the data, the run and the templates beside it
run_report.py      the report of a run, from its artifact and its store
results_table.py   the table in the log of ``report``
"""
