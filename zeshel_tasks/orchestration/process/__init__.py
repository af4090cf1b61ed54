"""The runner for one machine: a stage is a child process of its Airflow task."""
