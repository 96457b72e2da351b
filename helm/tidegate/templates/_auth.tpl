{{/* Who may come in: which keys there are, and where a node finds them. */}}

{{/* Whether the chart makes keys: yes, unless one is given. */}}
{{- define "tidegate.generates" -}}
{{- $auth := .Values.auth }}
{{- if and $auth.generate (not (or $auth.hmac.existingSecret $auth.publicKeys.existingSecret $auth.apiKeys.existingSecret)) -}}
true
{{- end }}
{{- end }}

{{- define "tidegate.keysSecret" -}}
{{ include "tidegate.fullname" . }}-keys
{{- end }}

{{/* The section `auth` of the configuration. */}}
{{- define "tidegate.auth" -}}
{{- $auth := .Values.auth }}
{{- $issuers := list }}
{{- if include "tidegate.generates" . }}
{{- $issuers = append $issuers (dict "algorithm" "HS256" "key_file" "/etc/tidegate/keys/hmac") }}
{{- end }}
{{- if $auth.hmac.existingSecret }}
{{- range $auth.hmac.keys }}
{{- $issuer := dict "algorithm" $auth.hmac.algorithm "key_file" (printf "/etc/tidegate/hmac/%s" .) }}
{{- with $auth.hmac.issuer }}{{ $_ := set $issuer "issuer" . }}{{ end }}
{{- with $auth.hmac.audience }}{{ $_ := set $issuer "audience" . }}{{ end }}
{{- $issuers = append $issuers $issuer }}
{{- end }}
{{- end }}
{{- if $auth.publicKeys.existingSecret }}
{{- range $auth.publicKeys.keys }}
{{- $issuer := dict "algorithm" .algorithm "key_file" (printf "/etc/tidegate/public-keys/%s" .key) }}
{{- with .issuer }}{{ $_ := set $issuer "issuer" . }}{{ end }}
{{- with .audience }}{{ $_ := set $issuer "audience" . }}{{ end }}
{{- $issuers = append $issuers $issuer }}
{{- end }}
{{- end }}
{{- $out := dict "origins" $auth.origins "anonymous" $auth.anonymous "issuers" $issuers }}
{{- if include "tidegate.generates" . }}
{{- $_ := set $out "api_keys_file" "/etc/tidegate/keys/api-keys.yaml" }}
{{- else if $auth.apiKeys.existingSecret }}
{{- $_ := set $out "api_keys_file" (printf "/etc/tidegate/api-keys/%s" $auth.apiKeys.key) }}
{{- end }}
{{- toYaml $out }}
{{- end }}
