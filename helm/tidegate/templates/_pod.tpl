{{/* The parts of a pod. */}}

{{- define "tidegate.podSecurity" -}}
{{- $restricted := dict
      "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532
      "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- toYaml (mustMergeOverwrite $restricted (deepCopy .Values.podSecurityContext)) }}
{{- end }}

{{- define "tidegate.security" -}}
{{- $restricted := dict
      "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true
      "capabilities" (dict "drop" (list "ALL")) }}
{{- toYaml (mustMergeOverwrite $restricted (deepCopy .Values.securityContext)) }}
{{- end }}

{{- define "tidegate.probe" -}}
{{- $probe := dict
      "httpGet" (dict "path" .path "port" "management")
      "periodSeconds" .period "failureThreshold" .failures "timeoutSeconds" 2 }}
{{- toYaml (mustMergeOverwrite $probe (deepCopy .over)) }}
{{- end }}

{{- define "tidegate.env" -}}
{{- if not (hasKey .Values.config "shards") }}
# Without a CPU limit a pod sees every core of its host; it asked for these, rounded up.
- name: TIDEGATE_SHARDS
  valueFrom:
    resourceFieldRef: {containerName: tidegate, resource: requests.cpu, divisor: "1"}
{{- end }}
{{- with .Values.otel }}
{{- if .endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: OTEL_SERVICE_NAME, value: {{ include "tidegate.fullname" $ | quote }}}
- {name: OTEL_TRACES_SAMPLER, value: {{ .sampler | quote }}}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ .samplerArg | quote }}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name={{ $.Release.Namespace }},k8s.pod.name=$(POD_NAME)
    {{- range $key, $value := .resourceAttributes }},{{ $key }}={{ $value }}{{ end }}
{{- with .headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ . }}, key: headers}}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Keys are files, in folders of their own: the gateway reads them again when they change. */}}
{{- define "tidegate.mounts" -}}
{{- range $name := include "tidegate.folders" . | fromYamlArray }}
- {name: {{ $name }}, mountPath: /etc/tidegate/{{ $name }}, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tidegate.folders" -}}
- config
{{- if include "tidegate.generates" . }}
- keys
{{- end }}
{{- if .Values.auth.hmac.existingSecret }}
- hmac
{{- end }}
{{- if .Values.auth.publicKeys.existingSecret }}
- public-keys
{{- end }}
{{- if .Values.auth.apiKeys.existingSecret }}
- api-keys
{{- end }}
{{- if .Values.nats.existingSecret }}
- nats
{{- end }}
{{- if .Values.nats.tls.caSecret }}
- nats-ca
{{- end }}
{{- if .Values.nats.tls.clientSecret }}
- nats-client
{{- end }}
{{- end }}

{{- define "tidegate.volumes" -}}
- name: config
  configMap: {name: {{ include "tidegate.fullname" . }}}
{{- if include "tidegate.generates" . }}
- name: keys
  secret:
    secretName: {{ include "tidegate.keysSecret" . }}
    defaultMode: 0440
    items: # not api-key: its hash is enough
      - {key: hmac, path: hmac}
      - {key: api-keys.yaml, path: api-keys.yaml}
{{- end }}
{{- with .Values.auth }}
{{- if .hmac.existingSecret }}
- name: hmac
  secret: {secretName: {{ .hmac.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- if .publicKeys.existingSecret }}
- name: public-keys
  secret: {secretName: {{ .publicKeys.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- if .apiKeys.existingSecret }}
- name: api-keys
  secret: {secretName: {{ .apiKeys.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- with .Values.nats }}
{{- if .existingSecret }}
- name: nats
  secret: {secretName: {{ .existingSecret }}, defaultMode: 0440}
{{- end }}
{{- if .tls.caSecret }}
- name: nats-ca
  secret: {secretName: {{ .tls.caSecret }}, defaultMode: 0440}
{{- end }}
{{- if .tls.clientSecret }}
- name: nats-client
  secret: {secretName: {{ .tls.clientSecret }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
