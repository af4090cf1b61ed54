{{/* Service accounts that run the operator, as a YAML list. */}}
{{- define "zeshel.subjects" -}}
{{- $subjects := list -}}
{{- if .Values.standalone.enabled -}}
{{- $subjects = append $subjects (dict "name" (include "zeshel.airflowAccount" .)) -}}
{{- else if .Values.airflow.enabled -}}
{{- $components := list "triggerer" -}}
{{- if contains "LocalExecutor" .Values.airflow.executor }}{{ $components = append $components "scheduler" }}{{ end -}}
{{- if or (contains "Celery" .Values.airflow.executor) (contains "KubernetesExecutor" .Values.airflow.executor) -}}
{{- $components = append $components "worker" -}}
{{- end -}}
{{- range $component := $components -}}
{{- $subjects = append $subjects (dict "name" (include "zeshel.officialChartAccount" (list $ $component))) -}}
{{- end -}}
{{- end -}}
{{- range .Values.rbac.subjects }}{{ $subjects = append $subjects . }}{{ end -}}
{{- $result := list -}}
{{- range $subjects -}}
{{- $result = append $result (dict "kind" "ServiceAccount" "name" .name "namespace" (.namespace | default $.Release.Namespace)) -}}
{{- end -}}
{{- if $result }}{{ $result | uniq | toYaml }}{{ end -}}
{{- end -}}

{{/* Name of a component's service account in the official chart. Takes (list $ component). */}}
{{- define "zeshel.officialChartAccount" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $airflow := $root.Values.airflow -}}
{{- $prefix := $airflow.fullnameOverride | default $root.Release.Name -}}
{{- $account := get (get $airflow (ternary "workers" $component (eq $component "worker")) | default dict) "serviceAccount" | default dict -}}
{{- get $account "name" | default (printf "%s-%s" $prefix $component) -}}
{{- end -}}
