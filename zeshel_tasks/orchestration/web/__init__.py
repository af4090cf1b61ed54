"""What this project adds to Airflow's own web pages: a run's report, and what a stage left in the store."""
