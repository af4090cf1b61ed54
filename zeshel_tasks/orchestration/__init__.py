"""What only Airflow needs: a deployment's settings, the trigger form, operators, the local demo."""
