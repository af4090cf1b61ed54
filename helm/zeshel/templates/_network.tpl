{{/* Egress rules for DNS and the store, as a YAML list. Takes (list $ namespace-of-the-pods). */}}
{{- define "zeshel.egressToStore" -}}
{{- $root := index . 0 -}}
{{- $policy := $root.Values.networkPolicy -}}
{{- $endpoint := urlParse (include "zeshel.storeEndpoint" $root) -}}
{{- $usual := ternary "80" "443" (eq $endpoint.scheme "http") -}}
{{- $port := regexFind ":\\d+$" $endpoint.host | trimPrefix ":" | default $usual -}}
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
