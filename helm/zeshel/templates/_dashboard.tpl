{{/* A ConfigMap with a dashboard for Grafana. Takes (list $ values-of-the-dashboard name-of-the-ConfigMap component file). */}}
{{- define "zeshel.dashboard" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
{{- $name := index . 2 -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}-dashboard
  labels:
    {{- include "zeshel.labels" (list $root (index . 3)) | nindent 4 }}
    {{- range $label, $value := $values.labels }}
    {{ $label | quote }}: {{ $value | quote }}
    {{- end }}
  {{- with $values.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
data:
  {{ $name }}.json: |
    {{- $root.Files.Get (index . 4) | nindent 4 }}
{{- end -}}
