{{- define "zeshel.servingName" -}}
{{- include "zeshel.fullname" . }}-serving
{{- end -}}

{{- define "zeshel.servingAccount" -}}
{{- $account := .Values.serviceAccounts.serving -}}
{{- $account.name | default (ternary (include "zeshel.servingName" .) "default" $account.create) -}}
{{- end -}}

{{/* Secret of the admin token. Empty: requests may not change entities. */}}
{{- define "zeshel.adminSecret" -}}
{{- $token := .Values.serving.adminToken -}}
{{- if $token.enabled -}}
{{- $token.existingSecret | default (printf "%s-admin" (include "zeshel.servingName" .)) -}}
{{- end -}}
{{- end -}}

{{/* Arguments of the service, as a YAML list. Kubernetes would replace $(NAME) by a variable. */}}
{{- define "zeshel.servingArguments" -}}
{{- $serving := .Values.serving -}}
{{- $arguments := list "serve" (printf "--store=%s" (include "zeshel.storeAddress" .)) "--wait=true" "--port=8000" -}}
{{- range $serving.knowledgeBases -}}
{{- $arguments = append $arguments (printf "--kb=%s" .) -}}
{{- end -}}
{{- if $serving.adminToken.enabled -}}
{{- $arguments = append $arguments "--admin-token-file=/run/zeshel/admin/token" -}}
{{- end -}}
{{- range $name, $value := merge (dict) ($serving.settings | default dict) (dict "host" "0.0.0.0") -}}
{{- /* toJson, because a template would render 1000000 as 1e+06. */ -}}
{{- $arguments = append $arguments (printf "--%s=%s" $name (kindIs "string" $value | ternary $value (toJson $value))) -}}
{{- end -}}
{{- range $arguments }}
- {{ replace "$(" "$$(" . | quote }}
{{- end -}}
{{- end -}}

{{/* Environment variables, as a YAML mapping. */}}
{{- define "zeshel.servingEnv" -}}
{{- $env := include "zeshel.storeEnv" . | fromYaml -}}
{{- range $name, $value := .Values.serving.env }}{{ $_ := set $env $name $value }}{{ end -}}
{{- $env | toYaml -}}
{{- end -}}

{{/* Resources of the pod, with its GPU. */}}
{{- define "zeshel.servingResources" -}}
{{- $resources := deepCopy (.Values.serving.resources | default dict) -}}
{{- if .Values.serving.gpu -}}
{{- $_ := set $resources "limits" (merge (dict .Values.stages.gpuResource "1") ($resources.limits | default dict)) -}}
{{- $_ := set $resources "requests" (omit ($resources.requests | default dict) .Values.stages.gpuResource) -}}
{{- end -}}
{{- $resources | toYaml -}}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: the requests in progress end, then threads and connections. The time of the preStop
hook counts. */}}
{{- define "zeshel.servingGraceSeconds" -}}
{{- $drain := dig "drain_seconds" 25 (.Values.serving.settings | default dict) -}}
{{- add (int .Values.serving.preStopSeconds) (int $drain) 10 -}}
{{- end -}}

{{/* What clients outside the cluster need: neither metrics nor probes. */}}
{{- define "zeshel.servingPaths" -}}
- {path: /v1, type: Prefix}
- {path: /openapi.json, type: Exact}
- {path: /, type: Exact}
- {path: /page.css, type: Exact}
- {path: /page.js, type: Exact}
{{- end -}}

{{/* Reject combinations of values of the service that cannot work. */}}
{{- define "zeshel.servingChecks" -}}
{{- $serving := .Values.serving -}}
{{- if not $serving.knowledgeBases -}}
{{- fail "serving.knowledgeBases: expected names of knowledge bases, because serving.enabled is true; got none" -}}
{{- end -}}
{{- include "zeshel.resourceChecks" (list "serving.resources" ($serving.resources | default dict)) -}}
{{- $update := $serving.rollingUpdate -}}
{{- if not (or (regexMatch "[1-9]" (toString $update.maxSurge)) (regexMatch "[1-9]" (toString $update.maxUnavailable))) -}}
{{- fail "serving.rollingUpdate: expected maxSurge or maxUnavailable above 0, got 0 in both, so that no pod could be replaced" -}}
{{- end -}}
{{- if and $serving.adminToken.existingSecret (not $serving.adminToken.enabled) -}}
{{- fail (printf "serving.adminToken.enabled: expected true, because serving.adminToken.existingSecret is %q; got false" $serving.adminToken.existingSecret) -}}
{{- end -}}
{{- if and $serving.httpRoute.enabled (not $serving.httpRoute.parentRefs) -}}
{{- fail "serving.httpRoute.parentRefs: expected a Gateway, because serving.httpRoute.enabled is true; got none" -}}
{{- end -}}
{{- if and $serving.ingress.tlsSecret (not $serving.ingress.host) -}}
{{- fail (printf "serving.ingress.host: expected the host of the certificate in serving.ingress.tlsSecret, %q; got nothing" $serving.ingress.tlsSecret) -}}
{{- end -}}
{{- if $serving.autoscaling.enabled }}{{ include "zeshel.autoscalingChecks" . }}{{ end -}}
{{- end -}}

{{- define "zeshel.autoscalingChecks" -}}
{{- $scaling := .Values.serving.autoscaling -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "serving.autoscaling.minReplicas: expected at most maxReplicas, %d; got %d" (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- end -}}
{{- if not (or $scaling.cpuPercent $scaling.queue.waitingMentions) -}}
{{- fail "serving.autoscaling: expected cpuPercent or queue.waitingMentions, got neither" -}}
{{- end -}}
{{- $resources := .Values.serving.resources | default dict -}}
{{- if and $scaling.cpuPercent (not (or (dig "requests" "cpu" "" $resources) (dig "limits" "cpu" "" $resources))) -}}
{{- fail "serving.resources.requests.cpu: expected a request, because serving.autoscaling.cpuPercent is a part of it; got nothing" -}}
{{- end -}}
{{- if and $scaling.queue.labels (ne $scaling.queue.type "External") -}}
{{- fail (printf "serving.autoscaling.queue.labels: expected none, because only a metric of type External has them; got type %s" $scaling.queue.type) -}}
{{- end -}}
{{- end -}}
