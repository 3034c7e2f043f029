{{/* What selects the operator's pods. */}}
{{- define "lmforge.selector" -}}
app.kubernetes.io/name: lmforge
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of everything that the chart makes. */}}
{{- define "lmforge.labels" -}}
{{ include "lmforge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: lmforge
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "lmforge.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary .Release.Name "default" .Values.serviceAccount.create) -}}
{{- end }}

{{/* The Service that pods report to, as its certificate names it. */}}
{{- define "lmforge.reportsService" -}}
{{ .Release.Name }}-reports
{{- end }}
{{- define "lmforge.reportsHost" -}}
{{ include "lmforge.reportsService" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{/* Secret with ca.crt, tls.crt and tls.key. */}}
{{- define "lmforge.tlsSecret" -}}
{{- if eq .Values.reports.tls.source "secret" -}}
{{- required "reports.tls.source is secret: set reports.tls.secretName" .Values.reports.tls.secretName -}}
{{- else -}}
{{ .Release.Name }}-reports-tls
{{- end -}}
{{- end }}

{{- define "lmforge.leaseNamespace" -}}
{{- .Values.settings.leaderElection.namespace | default .Release.Namespace -}}
{{- end }}

{{/* What the operator reads, as lmforge_operator/settings.py wants it. */}}
{{- define "lmforge.settings" -}}
{{- $reports := dict
      "serviceUrl" (printf "https://%s:%v" (include "lmforge.reportsHost" .) .Values.reports.port)
      "port" .Values.reports.port
      "certDir" "/etc/lmforge/tls"
      "caPath" "/etc/lmforge/tls/ca.crt" -}}
{{- $settings := merge (dict
      "images" (omit .Values.images "operator")
      "store" (omit .Values.storage "namespaces")
      "nodeCache" .Values.nodeCache
      "reports" $reports
      "watchNamespaces" .Values.watchNamespaces
      "httpPort" .Values.metrics.port) .Values.settings -}}
{{ toPrettyJson $settings }}
{{- end }}

{{/* Each right of the operator, in the namespaces that it works in. */}}
{{- define "lmforge.rules" -}}
- apiGroups: [lmforge.dev]
  resources: [{{ include "lmforge.plurals" . }}]
  verbs: [get, list, watch, delete]
- apiGroups: [lmforge.dev]
  resources: [{{ include "lmforge.plurals" . | replace ", " "/status, " }}/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# Replicas of several pods.
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [get, list, watch, create, patch, delete]
# Why a run waits in its queue.
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list, watch]
# A router may read pods, and the operator can only give it what it may do itself.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, create]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, create]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, create]
- apiGroups: [scheduling.x-k8s.io, scheduling.volcano.sh]
  resources: [podgroups]
  verbs: [create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* Plural names of all kinds: the CRDs that the chart carries say which there are. */}}
{{- define "lmforge.plurals" -}}
{{- $plurals := list -}}
{{- range $path, $_ := .Files.Glob "files/crds/*.yaml" -}}
{{- $plurals = append $plurals ($path | base | trimPrefix "lmforge.dev_" | trimSuffix ".yaml") -}}
{{- end -}}
{{ join ", " $plurals }}
{{- end }}
