{{- define "stormglass.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "stormglass.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "stormglass.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "stormglass.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "stormglass.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "stormglass.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "stormglass.selector" -}}
app.kubernetes.io/name: {{ include "stormglass.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stormglass.labels" -}}
{{ include "stormglass.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "stormglass.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "stormglass.scheme" -}}
{{- if .Values.web.tls }}https{{ else }}http{{ end }}
{{- end }}

{{/* Not empty where the pages are served at every address of the network namespace. */}}
{{- define "stormglass.everywhere" -}}
{{- if regexMatch "^(0\\.0\\.0\\.0|\\[[0:]+\\])$" .Values.listen.address }}yes{{ end }}
{{- end }}

{{/* Not empty where they are served to the node alone. */}}
{{- define "stormglass.loopback" -}}
{{- if regexMatch "^(127\\.|\\[[0:]+1\\]$)" .Values.listen.address }}yes{{ end }}
{{- end }}

{{/* What a probe asks. The kubelet asks the pod's address, and with hostNetwork one that is named. */}}
{{- define "stormglass.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
  scheme: {{ include "stormglass.scheme" .root | upper }}
  {{- if not (include "stormglass.everywhere" .root) }}
  host: {{ .root.Values.listen.address | trimPrefix "[" | trimSuffix "]" | quote }}
  {{- end }}
{{- end }}

{{/* `extra` of a monitor, with the label `cluster` of every sample. */}}
{{- define "stormglass.extra" -}}
{{- $extra := deepCopy .monitor.extra }}
{{- with .root.Values.cluster }}
{{- $label := dict "targetLabel" "cluster" "replacement" . }}
{{- $_ := set $extra "relabelings" (prepend ($extra.relabelings | default list) $label) }}
{{- end }}
{{- with $extra }}
{{- toYaml . }}
{{- end }}
{{- end }}
