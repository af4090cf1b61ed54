{{/*
Names of objects. They depend only on the release's name, because the official chart evaluates them in its own scope,
where our values and our chart's name are not available.
*/}}
{{- define "zeshel.fullname" -}}
{{- if contains "zeshel" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimAll "-." -}}
{{- else -}}
{{- printf "%s-zeshel" .Release.Name | trunc 40 | trimAll "-." -}}
{{- end -}}
{{- end -}}

{{- define "zeshel.stagesNamespace" -}}
{{- .Values.stages.namespace | default .Release.Namespace -}}
{{- end -}}

{{/* Tells the stages' pods of this release from those of another one, perhaps of the same name in another namespace. */}}
{{- define "zeshel.stagesInstance" -}}
{{- $elsewhere := ne (include "zeshel.stagesNamespace" .) .Release.Namespace -}}
{{- $name := ternary (printf "%s.%s" .Release.Name .Release.Namespace) .Release.Name $elsewhere -}}
{{- ternary $name (printf "%s-%s" (trunc 54 $name | trimAll "-.") (sha256sum $name | trunc 8)) (le (len $name) 63) -}}
{{- end -}}

{{- define "zeshel.airflowAccount" -}}
{{- $account := .Values.serviceAccounts.airflow -}}
{{- $account.name | default (ternary (printf "%s-airflow" (include "zeshel.fullname" .)) "default" $account.create) -}}
{{- end -}}

{{- define "zeshel.stagesAccount" -}}
{{- $account := .Values.serviceAccounts.stages -}}
{{- $account.name | default (ternary (printf "%s-stage" (include "zeshel.fullname" .)) "default" $account.create) -}}
{{- end -}}

{{- define "zeshel.storeSecret" -}}
{{- .Values.store.existingSecret | default (ternary (printf "%s-store" (include "zeshel.fullname" .)) "" .Values.devStore.enabled) -}}
{{- end -}}

{{- define "zeshel.standaloneSecret" -}}
{{- .Values.standalone.existingSecret | default (printf "%s-keys" (include "zeshel.fullname" .)) -}}
{{- end -}}

{{- define "zeshel.tasksImage" -}}
{{- printf "%s:%s" .Values.images.tasks.repository (.Values.images.tasks.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "zeshel.smallImage" -}}
{{- if .Values.images.small.repository -}}
{{- printf "%s:%s" .Values.images.small.repository (.Values.images.small.tag | default .Chart.AppVersion) -}}
{{- else -}}
{{- include "zeshel.tasksImage" . -}}
{{- end -}}
{{- end -}}

{{- define "zeshel.airflowImage" -}}
{{- printf "%s:%s" .Values.images.airflow.repository (.Values.images.airflow.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* Labels of an object. Takes (list $ component). */}}
{{- define "zeshel.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{ include "zeshel.selector" . }}
{{- end -}}

{{- define "zeshel.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: zeshel
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Security context required by the Pod Security Standard "restricted", plus a read-only root file system. */}}
{{- define "zeshel.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Security context of a pod. Takes (list user group). Without a user, the cluster chooses user and groups, as OpenShift
does; it refuses pods that name others. */}}
{{- define "zeshel.podSecurity" -}}
runAsNonRoot: true
{{- if index . 0 }}
runAsUser: {{ index . 0 | toJson }}
runAsGroup: {{ index . 1 | toJson }}
fsGroup: {{ index . 1 | toJson }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}
