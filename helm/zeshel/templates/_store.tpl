{{/* Address of the store. `devStore` supplies it unless `store.address` is set. */}}
{{- define "zeshel.storeAddress" -}}
{{- .Values.store.address | default (ternary (printf "s3://%s" .Values.devStore.bucket) "" .Values.devStore.enabled) | trimSuffix "/" -}}
{{- end -}}

{{- define "zeshel.storeEndpoint" -}}
{{- .Values.store.endpoint | default (ternary (printf "http://%s-store.%s.svc:8333" (include "zeshel.fullname" .) .Release.Namespace) "" .Values.devStore.enabled) -}}
{{- end -}}

{{/* Addresses of the store, as a YAML list. Empty if the endpoint is a name, which a NetworkPolicy cannot match. */}}
{{- define "zeshel.storeCidrs" -}}
{{- .Values.networkPolicy.store.cidrs | default (include "zeshel.cidrsOfHost" (include "zeshel.storeEndpoint" .) | fromYamlArray) | toYaml -}}
{{- end -}}

{{/* Environment variables with which boto3 finds the store, as a YAML mapping. */}}
{{- define "zeshel.storeEnv" -}}
{{- $region := .Values.store.region | default (ternary "us-east-1" "" .Values.devStore.enabled) -}}
{{- $env := dict -}}
{{- /* Not AWS_ENDPOINT_URL, which every service would use: STS for workload identity, KMS, Secrets Manager. */ -}}
{{- with include "zeshel.storeEndpoint" . }}{{ $_ := set $env "AWS_ENDPOINT_URL_S3" . }}{{ end -}}
{{- with $region -}}
{{- /* boto3 reads the second name; the other AWS SDKs read the first. */ -}}
{{- $_ := set $env "AWS_REGION" . -}}
{{- $_ := set $env "AWS_DEFAULT_REGION" . -}}
{{- end -}}
{{- with .Values.store.checksums -}}
{{- $_ := set $env "AWS_REQUEST_CHECKSUM_CALCULATION" . -}}
{{- $_ := set $env "AWS_RESPONSE_CHECKSUM_VALIDATION" . -}}
{{- end -}}
{{- with .Values.store.encryption }}{{ $_ := set $env "ZESHEL_S3_ENCRYPTION" . }}{{ end -}}
{{- with .Values.store.kmsKey }}{{ $_ := set $env "ZESHEL_S3_KMS_KEY" . }}{{ end -}}
{{- with .Values.store.storageClass }}{{ $_ := set $env "ZESHEL_S3_STORAGE_CLASS" . }}{{ end -}}
{{- with .Values.store.addressing }}{{ $_ := set $env "ZESHEL_S3_ADDRESSING" . }}{{ end -}}
{{- if include "zeshel.caVolume" . -}}
{{- /* boto3; httpx and Python's ssl, for the model hub and the data set; requests, for MLflow. */ -}}
{{- range list "AWS_CA_BUNDLE" "SSL_CERT_FILE" "REQUESTS_CA_BUNDLE" }}{{ $_ := set $env . "/etc/zeshel/ca/ca.crt" }}{{ end -}}
{{- end -}}
{{- $env | toYaml -}}
{{- end -}}

{{/* Volume of `caBundle`, as YAML. Empty if there is none. */}}
{{- define "zeshel.caVolume" -}}
{{- with .Values.caBundle -}}
{{- $items := list (dict "key" .key "path" "ca.crt") -}}
{{- if .configMap -}}
{{- dict "name" "ca-bundle" "configMap" (dict "name" .configMap "items" $items) | toYaml -}}
{{- else if .secret -}}
{{- dict "name" "ca-bundle" "secret" (dict "secretName" .secret "items" $items) | toYaml -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where containers mount it, as YAML. Empty if there is none. */}}
{{- define "zeshel.caMount" -}}
{{- if include "zeshel.caVolume" . -}}
{{- dict "name" "ca-bundle" "mountPath" "/etc/zeshel/ca" "readOnly" true | toYaml -}}
{{- end -}}
{{- end -}}
