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
{{- with $values.stages.hubCache -}}
{{- if and .claimName .hostPath -}}
{{- fail (printf "stages.hubCache: expected claimName or hostPath, got %q and %q" .claimName .hostPath) -}}
{{- end -}}
{{- end -}}
{{- if and $values.store.kmsKey (not (hasPrefix "aws:kms" $values.store.encryption)) -}}
{{- fail (printf "store.encryption: expected aws:kms or aws:kms:dsse, because store.kmsKey is set; got %q" $values.store.encryption) -}}
{{- end -}}
{{- if and $values.caBundle.configMap $values.caBundle.secret -}}
{{- fail "caBundle: expected a configMap or a secret, got both" -}}
{{- end -}}
{{- range $path, $template := dict "stages" $values.stages.podTemplate "stages.model" $values.stages.model.podTemplate "stages.data" $values.stages.data.podTemplate -}}
{{- include "zeshel.podTemplateChecks" (list $values $path ($template | default dict)) -}}
{{- end -}}
{{- if and $values.dag.deadlineMinutes (not $values.dag.notifier) -}}
{{- fail "dag.notifier: expected a notifier, because dag.deadlineMinutes is set; got nothing" -}}
{{- end -}}
{{- include "zeshel.accountChecks" . -}}
{{- $name := include "zeshel.fullname" . -}}
{{- if and (or $values.standalone.enabled $values.devStore.enabled $values.serving.enabled) (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name)) -}}
{{- fail (printf "name of the release: expected a letter first, then letters, digits and -, because a Service is named after it; got %q" .Release.Name) -}}
{{- end -}}
{{- if and $values.devStore.enabled $values.store.address (ne (urlParse $values.store.address).host $values.devStore.bucket) -}}
{{- fail (printf "store.address: expected the bucket of devStore.bucket, %q; got %q" $values.devStore.bucket $values.store.address) -}}
{{- end -}}
{{- include "zeshel.resourceChecks" (list "stages.model.resources" $values.stages.model.resources) -}}
{{- include "zeshel.resourceChecks" (list "stages.data.resources" $values.stages.data.resources) -}}
{{- include "zeshel.resourceChecks" (list "devStore.resources" $values.devStore.resources) -}}
{{- include "zeshel.resourceChecks" (list "retention.resources" ($values.retention.resources | default dict)) -}}
{{- if and (regexMatch "^[0-9]" (toString $values.retention.keepRuns)) (lt (int $values.retention.olderThanDays) 14) -}}
{{- fail (printf "retention.olderThanDays: expected at least 14, because retention.keepRuns is set; got %d" (int $values.retention.olderThanDays)) -}}
{{- end -}}
{{- range $component, $resources := $values.standalone.resources -}}
{{- include "zeshel.resourceChecks" (list (printf "standalone.resources.%s" $component) $resources) -}}
{{- end -}}
{{- if and $values.resourceQuota.enabled (not $values.resourceQuota.hard) -}}
{{- fail "resourceQuota.hard: expected limits, got none" -}}
{{- end -}}
{{- if $values.networkPolicy.enabled }}{{ include "zeshel.networkPolicyChecks" . }}{{ end -}}
{{- if $values.airflow.enabled }}{{ include "zeshel.officialChartChecks" . }}{{ end -}}
{{- if $values.serving.enabled }}{{ include "zeshel.servingChecks" . }}{{ end -}}
{{- end -}}

{{/* Names that the stage's pod has already, and mounts without a volume. Takes (list values path template). */}}
{{- define "zeshel.podTemplateChecks" -}}
{{- $values := index . 0 -}}
{{- $path := index . 1 -}}
{{- $spec := (index . 2).spec | default dict -}}
{{- $known := list "scratch" "shm" "hub-cache" "ca-bundle" -}}
{{- range $spec.volumes -}}
{{- if has .name $known -}}
{{- fail (printf "%s.podTemplate.spec.volumes: expected another name than %q, which is there already" $path .name) -}}
{{- end -}}
{{- $known = append $known .name -}}
{{- end -}}
{{- range ($values.stages.podTemplate).spec | default dict | dig "volumes" list }}{{ $known = append $known .name }}{{ end -}}
{{- range concat ($spec.containers | default list) ($spec.initContainers | default list) -}}
{{- $container := .name -}}
{{- range .volumeMounts -}}
{{- if not (has .name $known) -}}
{{- fail (printf "%s.podTemplate.spec: volumeMounts of %s: expected one of the volumes %s; got %q" $path $container (join ", " $known) .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Service accounts that the chart creates in one namespace need different names. */}}
{{- define "zeshel.accountChecks" -}}
{{- $accounts := .Values.serviceAccounts -}}
{{- $created := dict -}}
{{- if and .Values.standalone.enabled $accounts.airflow.create }}{{ $_ := set $created "airflow" (include "zeshel.airflowAccount" .) }}{{ end -}}
{{- if and .Values.serving.enabled $accounts.serving.create }}{{ $_ := set $created "serving" (include "zeshel.servingAccount" .) }}{{ end -}}
{{- if and $accounts.stages.create (eq (include "zeshel.stagesNamespace" .) .Release.Namespace) }}{{ $_ := set $created "stages" (include "zeshel.stagesAccount" .) }}{{ end -}}
{{- $seen := dict -}}
{{- range $account, $name := $created -}}
{{- if hasKey $seen $name -}}
{{- fail (printf "serviceAccounts.%s.name: expected another name than serviceAccounts.%s.name, because both are created; got %q" $account (get $seen $name) $name) -}}
{{- end -}}
{{- $_ := set $seen $name $account -}}
{{- end -}}
{{- end -}}

{{/* Kubernetes refuses a request above its limit, and for GPUs and huge pages any request but the limit. Takes (list path
resources). */}}
{{- define "zeshel.resourceChecks" -}}
{{- $path := index . 0 -}}
{{- $limits := (index . 1).limits | default dict -}}
{{- range $name, $request := (index . 1).requests | default dict -}}
{{- $limit := get $limits $name -}}
{{- $requested := include "zeshel.amount" $request | float64 -}}
{{- $limited := include "zeshel.amount" ($limit | default $request) | float64 -}}
{{- if gt $requested $limited -}}
{{- fail (printf "%s: expected a request of %s of at most its limit, %s; got %s" $path $name $limit $request) -}}
{{- end -}}
{{- if and (or (contains "/" $name) (hasPrefix "hugepages-" $name)) (or (not $limit) (ne $requested $limited)) -}}
{{- fail (printf "%s: expected a limit of %s equal to its request, %s; got %s" $path $name $request ($limit | default "nothing")) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The number that a quantity of Kubernetes stands for. */}}
{{- define "zeshel.amount" -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $powers := dict "" 1.0 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- mulf (float64 $number) (get $powers (trimPrefix $number .)) -}}
{{- end -}}

{{/* Who limits the hub expects that nothing else is open. A store that only a name identifies would open all addresses. */}}
{{- define "zeshel.networkPolicyChecks" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and $policy.store.cidrs $policy.store.pods -}}
{{- fail "networkPolicy.store: expected cidrs or pods, got both" -}}
{{- end -}}
{{- range $policy.extraEgress }}{{ range .ports -}}
{{- if and .endPort (lt (int .endPort) (int .port)) -}}
{{- fail (printf "networkPolicy.extraEgress: expected an endPort of at least its port, %d; got %d" (int .port) (int .endPort)) -}}
{{- end -}}
{{- end }}{{ end -}}
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
{{- /* The official chart gives the job `extraEnvFrom` only with applyCustomEnv, which it advises Argo CD to set to false. */ -}}
{{- $job := $airflow.migrateDatabaseJob -}}
{{- if and (eq (toString $job.applyCustomEnv) "false") (contains "$ZESHEL_POOL" (toString $job.args)) -}}
{{- $pool := .Values.dag.pool -}}
{{- fail (printf "airflow.migrateDatabaseJob.args: expected the pool itself, because with applyCustomEnv false the job has no variable ZESHEL_POOL: airflow pools set %s %s \"Pods of zeshel's stages\" --include-deferred; got $ZESHEL_POOL" ($pool.name | quote) ($pool.slots | toJson)) -}}
{{- end -}}
{{- if include "zeshel.caVolume" . -}}
{{- $parts := dict "volumes" (include "zeshel.caVolume" . | fromYaml) "volumeMounts" (include "zeshel.caMount" . | fromYaml) -}}
{{- range $name, $part := $parts -}}
{{- if not (has $part (get $airflow $name | default list)) -}}
{{- fail (printf "airflow.%s: expected %s, with which Airflow's pods read caBundle; got %s" $name (toJson $part) (get $airflow $name | default list | toJson)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (contains "KubernetesExecutor" $airflow.executor) (not $airflow.allowPodLaunching) -}}
{{- fail (printf "airflow.allowPodLaunching: expected true with airflow.executor %s, which creates a pod for each task; got false" $airflow.executor) -}}
{{- end -}}
{{- end -}}
