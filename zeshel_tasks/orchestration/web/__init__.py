"""Pages on Airflow's web server: a run's report and the artifacts of its stages."""
