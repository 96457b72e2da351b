{{/* Up quickly, since clients wait; down slowly, since each pod that goes moves all of its clients. */}}
{{- define "tidegate.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - {type: Percent, value: 100, periodSeconds: 30}
scaleDown:
  stabilizationWindowSeconds: 600
  policies:
    - {type: Pods, value: 1, periodSeconds: 120}
{{- end }}

{{- define "tidegate.connectionsQuery" -}}
{{- .Values.autoscaling.prometheus.query | default (printf
      "sum(tidegate_connections{namespace=%q,pod=~\"%s-[a-z0-9]+-[a-z0-9]+\"})"
      .Release.Namespace (include "tidegate.fullname" .)) }}
{{- end }}
