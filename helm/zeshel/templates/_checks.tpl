{{/* Reject combinations of values that cannot work and that a JSON schema cannot express. */}}
{{- define "zeshel.checks" -}}
{{- $values := .Values -}}
{{- if and $values.standalone.enabled $values.airflow.enabled -}}
{{- fail "standalone.enabled and airflow.enabled: expected at most one, got both; each installs a complete Airflow" -}}
{{- end -}}
{{- /* `required`, not `fail`, so that `helm lint` passes without values. */ -}}
{{- $address := include "zeshel.storeAddress" . | required "store.address: expected s3://bucket/prefix, got nothing; for a trial, set devStore.enabled=true instead" -}}
{{- if and $values.devStore.enabled $values.store.endpoint -}}
{{- fail (printf "store.endpoint: expected nothing, because devStore.enabled sets it; got %q" $values.store.endpoint) -}}
{{- end -}}
{{- if and (not $values.stages.inCluster) (not $values.stages.connectionId) -}}
{{- fail "stages.connectionId: expected an Airflow connection to the stages' cluster, because stages.inCluster is false; got nothing" -}}
{{- end -}}
{{- if and $values.stages.inCluster $values.stages.connectionId -}}
{{- fail (printf "stages.inCluster: expected false, because stages.connectionId is %q; got true" $values.stages.connectionId) -}}
{{- end -}}
{{- if and $values.dag.deadlineMinutes (not $values.dag.notifier) -}}
{{- fail "dag.notifier: expected a notifier, because dag.deadlineMinutes is set; got nothing" -}}
{{- end -}}
{{- if and $values.resourceQuota.enabled (not $values.resourceQuota.hard) -}}
{{- fail "resourceQuota.hard: expected limits, got none" -}}
{{- end -}}
{{- if $values.networkPolicy.enabled }}{{ include "zeshel.networkPolicyChecks" . }}{{ end -}}
{{- if $values.airflow.enabled }}{{ include "zeshel.officialChartChecks" . }}{{ end -}}
{{- end -}}

{{/* Who limits the hub expects that nothing else is open. A store that only a name identifies would open all addresses. */}}
{{- define "zeshel.networkPolicyChecks" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and $policy.store.cidrs $policy.store.pods -}}
{{- fail "networkPolicy.store: expected cidrs or pods, got both" -}}
{{- end -}}
{{- $known := or .Values.devStore.enabled $policy.store.pods (include "zeshel.storeCidrs" . | fromYamlArray) -}}
{{- if not (or $known (has "0.0.0.0/0" $policy.hub.cidrs)) -}}
{{- $endpoint := include "zeshel.storeEndpoint" . | default "AWS" -}}
{{- fail (printf "networkPolicy.store.cidrs: expected the store's addresses, because networkPolicy.hub.cidrs limits the network and the name of the store (%s) would open all addresses; got nothing" $endpoint) -}}
{{- end -}}
{{- end -}}

{{/* Our templates cannot set the official chart's values, so check that they agree with ours. */}}
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
{{- fail (printf "airflow.extraEnvFrom: expected a reference to %s, which Airflow's containers need; got\n%s" $name $sources) -}}
{{- end -}}
{{- end -}}
{{- if and (contains "KubernetesExecutor" $airflow.executor) (not $airflow.allowPodLaunching) -}}
{{- fail (printf "airflow.allowPodLaunching: expected true with airflow.executor %s, which creates a pod for each task; got false" $airflow.executor) -}}
{{- end -}}
{{- end -}}
