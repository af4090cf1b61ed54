"""A real Airflow on this machine, for the demo and for tests."""

from zeshel_tasks.demo.local_airflow.server import AirflowFailed, LocalAirflow

__all__ = ["AirflowFailed", "LocalAirflow"]
