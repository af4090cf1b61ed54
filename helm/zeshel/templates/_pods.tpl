{{/* ZESHEL_PODS: `stages` and the values that the chart computes, as JSON. Omits connectionId and
priorityClassName if they are empty and sets runAsUser and hubCache to null, because the DAG expects null for "not set". */}}
{{- define "zeshel.pods" -}}
{{- $pods := omit (deepCopy .Values.stages) "connectionId" -}}
{{- $_ := set $pods "image" (include "zeshel.tasksImage" .) -}}
{{- if .Values.images.small.repository }}{{ $_ := set $pods "smallImage" (include "zeshel.smallImage" .) }}{{ end -}}
{{- $_ := set $pods "imagePullPolicy" .Values.images.pullPolicy -}}
{{- $_ := set $pods "imagePullSecrets" (.Values.images.pullSecrets | default list) -}}
{{- $_ := set $pods "namespace" (include "zeshel.stagesNamespace" .) -}}
{{- $_ := set $pods "instance" (include "zeshel.stagesInstance" .) -}}
{{- $_ := set $pods "serviceAccountName" (include "zeshel.stagesAccount" .) -}}
{{- if not .Values.stages.runAsUser }}{{ $_ := set $pods "runAsUser" nil }}{{ end -}}
{{- $cache := dict -}}
{{- range $name, $value := .Values.stages.hubCache }}{{ if $value }}{{ $_ := set $cache $name $value }}{{ end }}{{ end -}}
{{- $_ := set $pods "hubCache" (ternary $cache nil (not (empty $cache))) -}}
{{- with .Values.stages.connectionId }}{{ $_ := set $pods "connectionId" . }}{{ end -}}
{{- $_ := set $pods "env" (include "zeshel.podEnv" . | fromYaml) -}}
{{- $_ := set $pods "secrets" (include "zeshel.podSecrets" . | fromYamlArray) -}}
{{- range $class := list "model" "data" -}}
{{- if not (index $pods $class "priorityClassName") }}{{ $_ := set $pods $class (omit (index $pods $class) "priorityClassName") }}{{ end -}}
{{- if not (index $pods $class "podTemplate") }}{{ $_ := set $pods $class (omit (index $pods $class) "podTemplate") }}{{ end -}}
{{- end -}}
{{- $_ := set $pods "podTemplate" (include "zeshel.podTemplate" . | fromYaml) -}}
{{- range list "podTemplate" "fixedParams" -}}
{{- if not (index $pods .) }}{{ $pods = omit $pods . }}{{ end -}}
{{- end -}}
{{- $pods | toJson -}}
{{- end -}}

{{/* `stages.podTemplate` with the volume of `caBundle`, as YAML. */}}
{{- define "zeshel.podTemplate" -}}
{{- $template := deepCopy (.Values.stages.podTemplate | default dict) -}}
{{- if include "zeshel.caVolume" . -}}
{{- $spec := $template.spec | default dict -}}
{{- $base := first ($spec.containers | default (list (dict "name" "base"))) -}}
{{- $mounts := append ($base.volumeMounts | default list) (include "zeshel.caMount" . | fromYaml) -}}
{{- $volumes := append ($spec.volumes | default list) (include "zeshel.caVolume" . | fromYaml) -}}
{{- $own := dict "volumes" $volumes "containers" (list (merge (dict "volumeMounts" $mounts) $base)) -}}
{{- $_ := set $template "spec" (merge $own $spec) -}}
{{- end -}}
{{- $template | toYaml -}}
{{- end -}}

{{/* Environment variables of the stages' pods, as a YAML mapping. */}}
{{- define "zeshel.podEnv" -}}
{{- $env := include "zeshel.storeEnv" . | fromYaml -}}
{{- with .Values.metrics.endpoint }}{{ $_ := set $env "OTEL_EXPORTER_OTLP_ENDPOINT" . }}{{ end -}}
{{- range $name, $value := .Values.stages.env }}{{ $_ := set $env $name $value }}{{ end -}}
{{- $env | toYaml -}}
{{- end -}}

{{/* Names of the Secrets that become environment variables of the stages' pods, as a YAML list. */}}
{{- define "zeshel.podSecrets" -}}
{{- $secrets := .Values.stages.secrets | default list -}}
{{- with include "zeshel.storeSecret" . }}{{ $secrets = prepend $secrets . }}{{ end -}}
{{- $secrets | toYaml -}}
{{- end -}}

{{- define "zeshel.sampleInputs" -}}
{{- include "zeshel.storeAddress" . }}/inputs
{{- end -}}

{{/* ZESHEL_DEFAULTS: the defaults of the trigger form, as JSON. */}}
{{- define "zeshel.defaults" -}}
{{- $defaults := deepCopy (.Values.dag.defaults | default dict) -}}
{{- if .Values.sampleInputs.enabled -}}
{{- $inputs := include "zeshel.sampleInputs" . -}}
{{- $sample := dict "preset" "smoke" "download.source" (printf "%s/sample_worlds.tar.bz2" $inputs) "bert_model" (printf "%s/small_bert" $inputs) -}}
{{- $defaults = merge $defaults $sample -}}
{{- end -}}
{{- $defaults | toJson -}}
{{- end -}}
