{{/* Combinations that cannot work, and that a schema cannot see. */}}
{{- define "zeshel.checks" -}}
{{- $values := .Values -}}
{{- if and $values.standalone.enabled $values.airflow.enabled -}}
{{- fail "standalone.enabled and airflow.enabled: expected at most one, got both; each is a whole Airflow" -}}
{{- end -}}
{{- /* Unlike fail, required lets `helm lint` pass without values. */ -}}
{{- $address := include "zeshel.storeAddress" . | required "store.address: expected s3://bucket/prefix, got nothing; or set devStore.enabled=true to try things out" -}}
{{- if and $values.devStore.enabled (or $values.store.endpoint $values.store.existingSecret) -}}
{{- fail "devStore.enabled: expected store.endpoint and store.existingSecret to be empty, since devStore gives both" -}}
{{- end -}}
{{- if and (not $values.stages.inCluster) (not $values.stages.connectionId) -}}
{{- fail "stages.connectionId: expected the Airflow connection to the stages' cluster, since stages.inCluster is false; got nothing" -}}
{{- end -}}
{{- if and $values.stages.inCluster $values.stages.connectionId -}}
{{- fail (printf "stages.inCluster: expected false, since stages.connectionId is %q" $values.stages.connectionId) -}}
{{- end -}}
{{- if and $values.dag.deadlineMinutes (not $values.dag.notifier) -}}
{{- fail "dag.notifier: expected whom a missed dag.deadlineMinutes is told, got nothing" -}}
{{- end -}}
{{- if and $values.resourceQuota.enabled (not $values.resourceQuota.hard) -}}
{{- fail "resourceQuota.hard: expected limits, got none" -}}
{{- end -}}
{{- if $values.airflow.enabled }}{{ include "zeshel.officialChartChecks" . }}{{ end -}}
{{- end -}}

{{/* Its values are out of our templates' reach, so what must agree with ours is compared. */}}
{{- define "zeshel.officialChartChecks" -}}
{{- $airflow := .Values.airflow -}}
{{- $ours := include "zeshel.airflowImage" . -}}
{{- $theirs := printf "%s:%s" $airflow.images.airflow.repository $airflow.images.airflow.tag -}}
{{- if ne $ours $theirs -}}
{{- fail (printf "airflow.images.airflow: expected the image of images.airflow, %s; got %s" $ours $theirs) -}}
{{- end -}}
{{- $sources := tpl ($airflow.extraEnvFrom | default "") . -}}
{{- $fullname := include "zeshel.fullname" . -}}
{{- range $name := compact (list (printf "%s-settings" $fullname) (printf "%s-airflow" $fullname) (include "zeshel.storeSecret" .)) -}}
{{- if not (regexMatch (printf "name: *['\"]?%s['\"]?\\s" (regexQuoteMeta $name)) (printf "%s\n" $sources)) -}}
{{- fail (printf "airflow.extraEnvFrom: expected it to name %s, which Airflow's containers need; got\n%s" $name $sources) -}}
{{- end -}}
{{- end -}}
{{- if and (contains "KubernetesExecutor" $airflow.executor) (not $airflow.allowPodLaunching) -}}
{{- fail (printf "airflow.allowPodLaunching: expected true with airflow.executor %s, which makes a pod for each task; got false" $airflow.executor) -}}
{{- end -}}
{{- end -}}
