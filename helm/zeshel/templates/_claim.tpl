{{/* A persistent volume claim. Takes (list $ component persistence). */}}
{{- define "zeshel.claim" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $persistence := index . 2 }}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ include "zeshel.fullname" $root }}-{{ $component }}
  labels: {{- include "zeshel.labels" (list $root $component) | nindent 4 }}
  annotations:
    # The data outlives the release and the value that created the claim. Helm adopts the claim if they come back.
    helm.sh/resource-policy: keep
spec:
  accessModes: [ReadWriteOnce]
  {{- with $persistence.storageClass }}
  storageClassName: {{ . | quote }}
  {{- end }}
  resources:
    requests: {storage: {{ $persistence.size | quote }}}
{{- end -}}
