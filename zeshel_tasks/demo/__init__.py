"""Sample worlds, a small BERT and a complete Airflow on this machine, for the demo and for tests."""
