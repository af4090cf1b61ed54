# Runs before Airflow starts: migrates its database, creates the stages' pool, and writes the login for its simple auth
# manager.
set -eu
airflow db migrate
airflow pools set "$ZESHEL_POOL" "$ZESHEL_POOL_SLOTS" "Pods of zeshel's stages" --include-deferred
umask 077
python -c 'import json, os; print(json.dumps({"admin": os.environ["ADMIN_PASSWORD"]}))' \
  > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
