"""The runner for one machine, where each stage is a child process of its Airflow task."""
