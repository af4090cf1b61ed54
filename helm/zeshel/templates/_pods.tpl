{{/* ZESHEL_PODS: `stages` with what the chart computes, as JSON. Empty strings mean "not set", which the DAG calls null. */}}
{{- define "zeshel.pods" -}}
{{- $pods := omit (deepCopy .Values.stages) "connectionId" -}}
{{- $_ := set $pods "image" (include "zeshel.tasksImage" .) -}}
{{- $_ := set $pods "imagePullPolicy" .Values.images.pullPolicy -}}
{{- $_ := set $pods "imagePullSecrets" .Values.images.pullSecrets -}}
{{- $_ := set $pods "namespace" (include "zeshel.stagesNamespace" .) -}}
{{- $_ := set $pods "serviceAccountName" (include "zeshel.stagesAccount" .) -}}
{{- with .Values.stages.connectionId }}{{ $_ := set $pods "connectionId" . }}{{ end -}}
{{- $env := include "zeshel.storeEnv" . | fromYaml -}}
{{- range $name, $value := .Values.stages.env }}{{ $_ := set $env $name $value }}{{ end -}}
{{- $_ := set $pods "env" $env -}}
{{- with include "zeshel.storeSecret" . }}{{ $_ := set $pods "secrets" (prepend $pods.secrets .) }}{{ end -}}
{{- range $class := list "model" "data" -}}
{{- if not (index $pods $class "priorityClassName") }}{{ $_ := set $pods $class (omit (index $pods $class) "priorityClassName") }}{{ end -}}
{{- end -}}
{{- $pods | toJson -}}
{{- end -}}
