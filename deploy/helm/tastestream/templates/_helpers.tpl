{{- define "tastestream.name" -}}
{{- if contains "tastestream" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-tastestream" (.Release.Name | trunc 28 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "tastestream.port" -}}
{{ get (dict "embed" "6066" "profile" "6067" "serve" "6068") . }}
{{- end }}

{{/* Labels that never change. Called with {root, kind}. */}}
{{- define "tastestream.selector" -}}
app.kubernetes.io/name: tastestream
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .kind }}
{{- end }}

{{- define "tastestream.labels" -}}
{{ include "tastestream.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* The environment of a container: common settings, those of the kind, and those that the chart needs. */}}
{{- define "tastestream.environment" -}}
{{- $chart := dict "BROKER" .root.Values.brokers "DATA_DIR" "/data" "WEB_HOST" "0.0.0.0" }}
{{- if eq .kind "serve" }}
{{- $chart = merge (dict "SERVE_HOST" "0.0.0.0" "SERVE_TOKENS" "/etc/tastestream/tokens/tokens.json") $chart }}
{{- end }}
{{- $own := dict }}
{{- if ne .kind "topics" }}{{ $own = (get .root.Values .kind).settings }}{{ end -}}
env:
{{- range $name, $value := merge $chart (deepCopy $own) (deepCopy .root.Values.settings) }}
  - {name: TASTESTREAM_{{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- with .root.Values.settingsSecret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{/* What all pods share. Called with {root, kind}. */}}
{{- define "tastestream.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false  # a Service called tastestream-serve would set TASTESTREAM_SERVE_PORT
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.scheduling }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The container of every pod, without probes. */}}
{{- define "tastestream.container" -}}
name: {{ .kind }}
image: {{ printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: {{ ternary (list "topics") (list "worker" .kind) (eq .kind "topics") | toJson }}
{{ include "tastestream.environment" . }}
resources:
  {{- toYaml (get .root.Values .kind).resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: tmp, mountPath: /tmp}
{{- if eq .kind "serve" }}
  - {name: tokens, mountPath: /etc/tastestream/tokens, readOnly: true}
{{- end }}
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{/* Port and probes of a worker. It is not looked at for liveness until it has read the bags. */}}
{{- define "tastestream.probes" -}}
ports:
  - {name: {{ ternary "http" "metrics" (eq .kind "serve") }}, containerPort: {{ include "tastestream.port" .kind }}}
startupProbe:
  httpGet: {path: /ready, port: {{ include "tastestream.port" .kind }}}
  periodSeconds: 5
  timeoutSeconds: 4
  failureThreshold: {{ div (get (get .root.Values .kind) "recoverySeconds" | default 300) 5 }}
readinessProbe:
  httpGet: {path: /ready, port: {{ include "tastestream.port" .kind }}}
  periodSeconds: 5
  timeoutSeconds: 4
livenessProbe:
  httpGet: {path: /live, port: {{ include "tastestream.port" .kind }}}
  periodSeconds: 10
  timeoutSeconds: 4
  failureThreshold: 3
{{- end }}

{{- define "tastestream.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "tastestream.name" .root }}-{{ .kind }}
  labels: {{- include "tastestream.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "tastestream.selector" . | nindent 6 }}
{{- end }}
