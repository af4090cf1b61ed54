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
  - secretRef: {name: {{ . }}}
  {{- end }}
env:
  - name: ADMIN_PASSWORD
    valueFrom: {secretKeyRef: {name: {{ $keys }}, key: admin-password}}
  - name: AIRFLOW__CORE__FERNET_KEY
    valueFrom: {secretKeyRef: {name: {{ $keys }}, key: fernet-key}}
  - name: AIRFLOW__API_AUTH__JWT_SECRET
    valueFrom: {secretKeyRef: {name: {{ $keys }}, key: jwt-secret}}
  - name: AIRFLOW__API__SECRET_KEY
    valueFrom: {secretKeyRef: {name: {{ $keys }}, key: api-secret-key}}
volumeMounts:
  - {name: state, mountPath: /opt/airflow/state}
  - {name: private, mountPath: /opt/airflow/private}
  - {name: tmp, mountPath: /tmp}
  - {name: chart, mountPath: /opt/airflow/chart, readOnly: true}
  - {name: chart, mountPath: /opt/airflow/airflow.cfg, subPath: airflow.cfg, readOnly: true}
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
