"""The Airflow side: a deployment's settings, the trigger form, operators, notifications, web pages."""
