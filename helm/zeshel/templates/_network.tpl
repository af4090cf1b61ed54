{{/* The address block of a URL's host as a YAML list, if the host is an IP address; otherwise an empty list. */}}
{{- define "zeshel.cidrsOfHost" -}}
{{- $host := regexReplaceAll ":\\d+$" (urlParse .).host "" -}}
{{- if regexMatch "^\\d+\\.\\d+\\.\\d+\\.\\d+$" $host -}}
{{- list (printf "%s/32" $host) | toYaml -}}
{{- else if hasPrefix "[" $host -}}
{{- list (printf "%s/128" (trimAll "[]" $host)) | toYaml -}}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{/* The port of a URL. */}}
{{- define "zeshel.portOfUrl" -}}
{{- $url := urlParse . -}}
{{- regexFind ":\\d+$" $url.host | trimPrefix ":" | default (ternary "80" "443" (eq $url.scheme "http")) -}}
{{- end -}}

{{/* Egress rule for the collector of metrics, as a YAML list. */}}
{{- define "zeshel.egressToCollector" -}}
- to:
    {{- range include "zeshel.cidrsOfHost" . | fromYamlArray | default (list "0.0.0.0/0" "::/0") }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports:
    - {protocol: TCP, port: {{ include "zeshel.portOfUrl" . }}}
{{- end -}}

{{/* Egress rules for DNS and the store, as a YAML list. Takes (list $ namespace-of-the-pods). */}}
{{- define "zeshel.egressToStore" -}}
{{- $root := index . 0 -}}
{{- $policy := $root.Values.networkPolicy -}}
{{- $port := include "zeshel.portOfUrl" (include "zeshel.storeEndpoint" $root) -}}
# DNS. The IP address is that of the DNS cache that some clusters run on each node.
- to:
    - namespaceSelector: {}
    - ipBlock: {cidr: 169.254.20.10/32}
  ports:
    {{- range $policy.dnsPorts }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
# The store.
- to:
    {{- if $root.Values.devStore.enabled }}
    - podSelector:
        matchLabels: {{- include "zeshel.selector" (list $root "store") | nindent 10 }}
      {{- if ne (index . 1) $root.Release.Namespace }}
      namespaceSelector:
        matchLabels:
          # Kubernetes sets this label since 1.21.
          kubernetes.io/metadata.name: {{ $root.Release.Namespace | quote }}
      {{- end }}
    {{- else if $policy.store.pods }}
    - {{- toYaml $policy.store.pods | nindent 6 }}
    {{- else }}
    {{- range include "zeshel.storeCidrs" $root | fromYamlArray | default (list "0.0.0.0/0" "::/0") }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
    {{- end }}
  ports:
    {{- range $policy.store.ports | default (list (int $port)) }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}
