"""`make demo`: a real Airflow on this machine that runs the whole recipe once, before your eyes."""
