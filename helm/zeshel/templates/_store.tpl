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
{{- $env | toYaml -}}
{{- end -}}
