{{/* The part that all containers of the standalone Airflow share. */}}
{{- define "zeshel.standaloneContainer" -}}
{{- $keys := include "zeshel.standaloneSecret" . -}}
image: {{ include "zeshel.airflowImage" . }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
securityContext: {{- include "zeshel.containerSecurity" . | nindent 2 }}
envFrom:
  - configMapRef: {name: {{ include "zeshel.fullname" . }}-settings}
  - configMapRef: {name: {{ include "zeshel.fullname" . }}-airflow}
  {{- with include "zeshel.storeSecret" . }}
  - secretRef: {name: {{ . | quote }}}
  {{- end }}
env:
  - name: ADMIN_PASSWORD
    valueFrom: {secretKeyRef: {name: {{ $keys | quote }}, key: admin-password}}
  - name: AIRFLOW__CORE__FERNET_KEY
    valueFrom: {secretKeyRef: {name: {{ $keys | quote }}, key: fernet-key}}
  - name: AIRFLOW__API_AUTH__JWT_SECRET
    valueFrom: {secretKeyRef: {name: {{ $keys | quote }}, key: jwt-secret}}
  - name: AIRFLOW__API__SECRET_KEY
    valueFrom: {secretKeyRef: {name: {{ $keys | quote }}, key: api-secret-key}}
volumeMounts:
  - {name: state, mountPath: /opt/airflow/state}
  - {name: private, mountPath: /opt/airflow/private}
  - {name: tmp, mountPath: /tmp}
  - {name: chart, mountPath: /opt/airflow/chart, readOnly: true}
  - {name: chart, mountPath: /opt/airflow/airflow.cfg, subPath: airflow.cfg, readOnly: true}
  {{- with include "zeshel.caMount" . }}
  - {{- . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Takes the component's name in the API server's health report. Allows ten minutes without a heartbeat, because a busy
small machine may stall. */}}
{{- define "zeshel.standaloneLiveness" -}}
livenessProbe:
  exec:
    command: [python, /opt/airflow/chart/health.py, alive, {{ . }}]
  initialDelaySeconds: 120
  periodSeconds: 60
  timeoutSeconds: 30
  failureThreshold: 10
{{- end -}}

{{/* Settings of the standalone Airflow, as a YAML mapping. `standalone.env` overrides them. */}}
{{- define "zeshel.standaloneSettings" -}}
# Airflow needs a name for its user, and one that the cluster chose has none in /etc/passwd.
USER: airflow
AIRFLOW__CORE__EXECUTOR: LocalExecutor
AIRFLOW__CORE__PARALLELISM: {{ .Values.standalone.parallelism | quote }}
AIRFLOW__CORE__LOAD_EXAMPLES: "False"
AIRFLOW__CORE__DAGS_FOLDER: /opt/airflow/dags
AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION: "False"
# The containers of a pod share a network.
AIRFLOW__CORE__EXECUTION_API_SERVER_URL: http://127.0.0.1:8080/execution/
AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS: admin:admin
# A copy of the Secret, because Airflow opens the file for writing.
AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE: /opt/airflow/private/passwords.json
AIRFLOW__DATABASE__SQL_ALCHEMY_CONN: sqlite:////opt/airflow/state/airflow.db
AIRFLOW__LOGGING__BASE_LOG_FOLDER: /opt/airflow/state/logs
AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY: /opt/airflow/state/logs/dag_processor
AIRFLOW__API__PORT: "8080"
AIRFLOW__API__BASE_URL: {{ .Values.standalone.baseUrl | default (printf "http://localhost:%v" .Values.standalone.service.port) | quote }}
AIRFLOW__API__WORKERS: "1"
# The one DAG changes only with the image, so parse rarely. Look often for tasks to start.
AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES: "1"
AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL: "600"
AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL: "600"
AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME: "0.5"
AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL: "2"
{{- end -}}
