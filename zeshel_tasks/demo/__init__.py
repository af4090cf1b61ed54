"""Sample worlds, a small BERT and a whole Airflow, for trying out and for tests."""
