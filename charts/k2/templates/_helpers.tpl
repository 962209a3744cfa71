{{/* The release's full name: `k2` for a release of that name. */}}
{{- define "k2.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "k2.operatorName" -}}
{{ include "k2.fullname" . }}-operator
{{- end }}

{{- define "k2.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "k2.operatorName" .) -}}
{{- else -}}
{{- required "serviceAccount.name: found none, expected a name because serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* What selects the operator's pod; must never change, a Deployment's selector is immutable. */}}
{{- define "k2.selectorLabels" -}}
app.kubernetes.io/name: k2-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "k2.commonLabels" -}}
app.kubernetes.io/part-of: k2
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "k2.labels" -}}
{{ include "k2.selectorLabels" . }}
{{ include "k2.commonLabels" . }}
{{- end }}

{{/* Labels of the pod of `helm test`, which the operator's selector must not match. */}}
{{- define "k2.testLabels" -}}
app.kubernetes.io/name: k2-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The reference of an image: (dict "root" $ "name" "sink"). */}}
{{- define "k2.image" -}}
{{- $image := .root.Values.image -}}
{{- $name := index .root.Values.images .name -}}
{{- $tag := $image.tag | default .root.Chart.AppVersion -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $name }}:{{ $tag }}
{{- end }}

{{- define "k2.pullPolicy" -}}
{{- .Values.image.pullPolicy | default (ternary "Always" "IfNotPresent" (not (empty .Values.image.registry))) -}}
{{- end }}

{{/* Pod Security `restricted`, and more: a number for the user, a read-only root, no token unless a volume mounts one. */}}
{{- define "k2.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "k2.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* The service account's token as the kubelet would mount it, asked for by name because automounting is off. */}}
{{- define "k2.tokenVolume" -}}
name: kube-api-access
projected:
  defaultMode: 0440
  sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3600}
    - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
    - downwardAPI: {items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]}
{{- end }}

{{/* Labels of a monitor or rule: (dict "root" $ "own" .Values.monitoring.x.additionalLabels); the own ones win. */}}
{{- define "k2.monitoringLabels" -}}
{{- $labels := merge (deepCopy .own) (deepCopy .root.Values.monitoring.additionalLabels) -}}
{{ include "k2.labels" .root }}
{{- with $labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
An annotation for kube-score, the reasons being these. One replica that is gone before the next one starts: two operators
at once could undo each other's steps, and pipelines run on without any; so there is no PodDisruptionBudget either, it
could only block drains. An image without a registry is on the nodes only: pulled always, it would never start.
(list of checks that do not hold, $)
*/}}
{{- define "k2.scoreIgnore" -}}
{{- $ignored := index . 0 -}}
{{- if ne (include "k2.pullPolicy" (index . 1)) "Always" }}{{ $ignored = append $ignored "container-image-pull-policy" }}{{ end -}}
{{- with $ignored -}}
kube-score/ignore: {{ join "," . }}
{{- end -}}
{{- end }}
