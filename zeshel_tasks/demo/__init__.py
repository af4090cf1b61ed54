"""Sample worlds, a small BERT and a complete Airflow on this machine, for the demo and for tests."""

from zeshel_tasks.download.hub_settings import check_timeouts

check_timeouts()  # before its modules import transformers, which reads them
