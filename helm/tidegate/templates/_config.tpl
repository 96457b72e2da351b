{{/* The configuration file of a node, and what no configuration may say. */}}

{{- define "tidegate.config" -}}
{{- include "tidegate.refusals" . }}
{{- $nats := dict "url" .Values.nats.url }}
{{- with .Values.nats.existingSecret }}
{{- $_ := set $nats "credentials_file" (printf "/etc/tidegate/nats/%s" $.Values.nats.credsKey) }}
{{- end }}
{{- $tls := dict }}
{{- if .Values.nats.tls.caSecret }}
{{- $_ := set $tls "ca_file" "/etc/tidegate/nats-ca/ca.crt" }}
{{- end }}
{{- if .Values.nats.tls.clientSecret }}
{{- $_ := set $tls "cert_file" "/etc/tidegate/nats-client/tls.crt" }}
{{- $_ := set $tls "key_file" "/etc/tidegate/nats-client/tls.key" }}
{{- end }}
{{- if $tls }}
{{- $_ := set $nats "tls" $tls }}
{{- end }}
{{- $drain := dict
      "lame_duck" (printf "%ds" (int .Values.drain.lameDuckSeconds))
      "window" (printf "%ds" (int .Values.drain.windowSeconds)) }}
{{- $out := dict
      "listen" (printf "0.0.0.0:%d" (int .Values.ports.client))
      "management" (printf "0.0.0.0:%d" (int .Values.ports.management))
      "nats" $nats
      "auth" (include "tidegate.auth" . | fromYaml)
      "drain" $drain }}
{{- toYaml (mustMergeOverwrite $out (deepCopy .Values.config)) }}
{{- end }}

{{/* Most pods that this release may have. */}}
{{- define "tidegate.replicasMost" -}}
{{- if .Values.autoscaling.enabled }}
{{- int .Values.autoscaling.maxReplicas }}
{{- else }}
{{- int .Values.replicaCount }}
{{- end }}
{{- end }}

{{- define "tidegate.progressDeadline" -}}
{{- $one := add (int .Values.terminationGracePeriodSeconds) (int .Values.minReadySeconds) }}
{{- $all := mul $one (include "tidegate.replicasMost" . | int) }}
{{- .Values.progressDeadlineSeconds | default (max 600 $all) | int }}
{{- end }}

{{/* What would render and then fail, or do harm, on a cluster. Each in words, all at the first. */}}
{{- define "tidegate.refusals" -}}
{{- $v := .Values }}
{{- range $key, $instead := dict
      "listen" "ports.client"
      "management" "ports.management"
      "drain" "drain.lameDuckSeconds and drain.windowSeconds" }}
{{- if hasKey $v.config $key }}
{{- fail (printf "config.%s: the chart writes it, so that pods and probes agree with it: set %s" $key $instead) }}
{{- end }}
{{- end }}
{{- if eq (int $v.ports.client) (int $v.ports.management) }}
{{- fail "ports.management: must not be ports.client" }}
{{- end }}
{{- $needed := add (int $v.drain.lameDuckSeconds) (int $v.drain.windowSeconds) 20 }}
{{- if lt (int $v.terminationGracePeriodSeconds) (int $needed) }}
{{- fail (printf "terminationGracePeriodSeconds: %d is too short: drain.lameDuckSeconds, drain.windowSeconds and 20 s more are %d" (int $v.terminationGracePeriodSeconds) $needed) }}
{{- end }}
{{- $natsConfig := $v.config.nats | default dict }}
{{- $url := $natsConfig.url | default $v.nats.url }}
{{- if contains "@" $url }}
{{- fail "nats.url: holds a user or password, which everybody may read in a ConfigMap: put credentials into a Secret, and name it in nats.existingSecret" }}
{{- end }}
{{- if and (not $url) (gt (include "tidegate.replicasMost" . | int) 1) }}
{{- fail "nats.url: is empty, so the bus is in memory, and pods would not hear each other: set it, or replicaCount: 1 without autoscaling" }}
{{- end }}
{{- $auth := include "tidegate.auth" . | fromYaml }}
{{- $auth = mustMergeOverwrite $auth (deepCopy ($v.config.auth | default dict)) }}
{{- if not (or $auth.issuers $auth.api_keys_file $auth.anonymous.subscribe $auth.anonymous.publish $auth.anonymous.history) }}
{{- fail "auth: nobody could come in: it needs generate: true, a key, or something in anonymous" }}
{{- end }}
{{- if and $v.auth.publicKeys.existingSecret (not $v.auth.publicKeys.keys) }}
{{- fail "auth.publicKeys.keys: is empty: say which entries of the Secret are keys, and of which algorithm" }}
{{- end }}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs: is empty: name the Gateway" }}
{{- end }}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) }}
{{- fail "ingress.hosts: is empty: name a host" }}
{{- end }}
{{- if $v.autoscaling.enabled }}
{{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) }}
{{- fail "autoscaling.minReplicas: is over maxReplicas" }}
{{- end }}
{{- if and (eq $v.autoscaling.kind "keda") (not $v.autoscaling.prometheus.serverAddress) }}
{{- fail "autoscaling.prometheus.serverAddress: is empty, and KEDA would have nobody to ask" }}
{{- end }}
{{- end }}
{{- if le (include "tidegate.progressDeadline" . | int) (int $v.minReadySeconds) }}
{{- fail "progressDeadlineSeconds: must be over minReadySeconds" }}
{{- end }}
{{- end }}
