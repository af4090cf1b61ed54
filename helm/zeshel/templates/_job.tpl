{{/* Pod of a Job that runs one command on the store: placed, restricted and labelled like a stage of class "data", and
with its `podTemplate`. Takes (list $ component image arguments resources). */}}
{{- define "zeshel.jobPod" -}}
{{- $root := index . 0 -}}
{{- $pod := include "zeshel.plainJobPod" . | fromYaml -}}
{{- $container := first $pod.spec.containers -}}
{{- range list $root.Values.stages.podTemplate $root.Values.stages.data.podTemplate -}}
{{- $spec := deepCopy ((. | default dict).spec | default dict) -}}
{{- $base := first ($spec.containers | default (list dict)) -}}
{{- range $field := list "env" "envFrom" "volumeMounts" "volumeDevices" -}}
{{- with get $base $field }}{{ $_ := set $container $field (concat (get $container $field | default list) .) }}{{ end -}}
{{- end -}}
{{- with dig "resources" "claims" list $base }}{{ $_ := set $container.resources "claims" . }}{{ end -}}
{{- range $field := list "volumes" "initContainers" -}}
{{- with get $spec $field }}{{ $_ := set $pod.spec $field (concat (get $pod.spec $field | default list) .) }}{{ end -}}
{{- end -}}
{{- $security := merge (dict) ($spec.securityContext | default dict) $pod.spec.securityContext -}}
{{- $_ := set $pod "spec" (merge (dict "securityContext" $security) (omit $spec "containers" "volumes" "initContainers") $pod.spec) -}}
{{- end -}}
{{- range $pod.spec.initContainers -}}
{{- $_ := set . "securityContext" (include "zeshel.containerSecurity" $root | fromYaml) -}}
{{- end -}}
{{- $pod | toYaml -}}
{{- end -}}

{{- define "zeshel.plainJobPod" -}}
{{- $component := index . 1 -}}
{{- $image := index . 2 -}}
{{- $arguments := index . 3 -}}
{{- $resources := index . 4 -}}
{{- with index . 0 -}}
{{- $env := include "zeshel.podEnv" . | fromYaml -}}
metadata:
  labels:
    {{- include "zeshel.labels" (list . $component) | nindent 4 }}
    {{- range $label, $value := .Values.stages.labels }}
    {{ $label | quote }}: {{ $value | quote }}
    {{- end }}
  {{- with .Values.stages.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ include "zeshel.stagesAccount" . | quote }}
  automountServiceAccountToken: false
  {{- with .Values.images.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  securityContext: {{- include "zeshel.podSecurity" (list .Values.stages.runAsUser .Values.stages.runAsUser) | nindent 4 }}
  containers:
    - name: {{ $component }}
      image: {{ $image }}
      imagePullPolicy: {{ .Values.images.pullPolicy }}
      args: {{- toYaml $arguments | nindent 8 }}
      securityContext: {{- include "zeshel.containerSecurity" . | nindent 8 }}
      env:
        {{- if not (hasKey $env "OMP_WAIT_POLICY") }}
        # Idle threads sleep, because Airflow may be starting on the same small machine.
        - {name: OMP_WAIT_POLICY, value: PASSIVE}
        {{- end }}
        {{- if not (hasKey $env "OMP_NUM_THREADS") }}
        - {name: OMP_NUM_THREADS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
        {{- end }}
        {{- range $name, $value := $env }}
        - {name: {{ $name | quote }}, value: {{ $value | quote }}}
        {{- end }}
      envFrom:
        {{- range include "zeshel.podSecrets" . | fromYamlArray }}
        - secretRef: {name: {{ . | quote }}}
        {{- end }}
      resources: {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        - {name: scratch, mountPath: /scratch}
        {{- with include "zeshel.caMount" . }}
        - {{- . | nindent 10 }}
        {{- end }}
  volumes:
    - name: scratch
      emptyDir: {sizeLimit: {{ .Values.stages.scratchSize | quote }}}
    {{- with include "zeshel.caVolume" . }}
    - {{- . | nindent 6 }}
    {{- end }}
  {{- with .Values.stages.data }}
  {{- with .nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- end }}
{{- end -}}
{{- end -}}
