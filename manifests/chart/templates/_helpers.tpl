{{/* Labels of everything that belongs to one of the two programs. Called with the program's name. */}}
{{- define "sluice.labels" -}}
app.kubernetes.io/name: {{ . }}
app.kubernetes.io/part-of: sluice
{{- end }}

{{/* Labels of what both share. */}}
{{- define "sluice.shared" -}}
app.kubernetes.io/part-of: sluice
{{- end }}

{{/* An image: of a digest, of the tag, or of the chart's version. Called with (root, image). */}}
{{- define "sluice.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 }}
{{- with $root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The settings of the model, which both programs read. */}}
{{- define "sluice.settings" -}}
{{- $gates := dict
  "serviceTypeLoadBalancerOnly" "ServiceTypeLoadBalancerOnly"
  "ipTargetType" "EnableIPTargetType"
  "tcpUdpListener" "EnableTCPUDPListener"
  "advancedHealthChecks" "NLBHealthCheckAdvancedConfig"
  "nlbSecurityGroup" "NLBSecurityGroup"
  "capacityReservation" "LBCapacityReservation"
  "weightedTargetGroups" "WeightedTargetGroups"
  "enhancedDefaultBehavior" "EnhancedDefaultBehavior"
  "defaultTagsLowPriority" "EnableDefaultTagsLowPriority" }}
{{- with .Values -}}
clusterName: {{ .clusterName | quote }}
{{- with .region }}
region: {{ . | quote }}
{{- end }}
loadBalancerClass: {{ .loadBalancerClass | quote }}
defaultTargetType: {{ .defaultTargetType }}
defaultScheme: {{ .defaultLoadBalancerScheme }}
defaultSslPolicy: {{ .defaultSSLPolicy | quote }}
{{- with .defaultTags }}
defaultTags:
  {{- range $key, $value := . }}
  {{ $key | quote }}: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- with .externalManagedTags }}
externalManagedTags: {{ toJson . }}
{{- end }}
enableBackendSecurityGroup: {{ .enableBackendSecurityGroup }}
enableManageBackendSecurityGroupRules: {{ .enableManageBackendSecurityGroupRules }}
drainFloorSeconds: {{ .drainFloorSeconds }}
{{- $features := dict }}
{{- range $field, $gate := $gates }}
{{- if hasKey $.Values.controllerConfig.featureGates $gate }}
{{- $_ := set $features $field (get $.Values.controllerConfig.featureGates $gate) }}
{{- end }}
{{- end }}
{{- with $features }}
features: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The settings of the registrar alone. */}}
{{- define "sluice.registrarSettings" -}}
{{- with .Values -}}
features: {{- toYaml .features | nindent 2 }}
isolation: {{ .isolation | quote }}
{{- with .roles }}
roles: {{- toYaml . | nindent 2 }}
{{- end }}
loadBalancers:
  exactEndpointRules: {{ .disableRestrictedSecurityGroupRules }}
{{- with .backendSecurityGroup }}
  backendSecurityGroup: {{ . | quote }}
{{- end }}
{{- with .serviceTargetENISGTags }}
  endpointGroupTags:
  {{- range splitList "," . }}
  {{- $pair := splitn "=" 2 . }}
    {{ $pair._0 | quote }}: {{ $pair._1 | quote }}
  {{- end }}
{{- end }}
{{- range $field, $gate := dict
  "subnetsClusterTagCheck" "SubnetsClusterTagCheck"
  "subnetDiscoveryByReachability" "SubnetDiscoveryByReachability" }}
{{- if hasKey $.Values.controllerConfig.featureGates $gate }}
  {{ $field }}: {{ get $.Values.controllerConfig.featureGates $gate }}
{{- end }}
{{- end }}
maxTargetsPerTargetGroup: {{ .maxTargetsPerTargetGroup }}
localNodesOnly: {{ .localNodesOnly }}
swapPatienceSeconds: {{ .swapPatienceSeconds }}
auditPeriodSeconds: {{ .auditPeriodSeconds }}
{{- with .awsApiRates }}
rates: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* What both Deployments say of their pods alike. Called with (root, program). */}}
{{- define "sluice.podMetadata" -}}
{{- $root := index . 0 }}{{ $name := index . 1 -}}
labels:
  {{- with $root.Values.podLabels }}{{ toYaml . | nindent 2 }}{{ end }}
  {{- include "sluice.labels" $name | nindent 2 }}
annotations:
  {{- with $root.Values.podAnnotations }}{{ toYaml . | nindent 2 }}{{ end }}
  # New settings are read by new pods.
  checksum/settings: {{ include "sluice.settings" $root | sha256sum }}
  {{- if eq $name "sluice-registrar" }}
  checksum/registrar: {{ include "sluice.registrarSettings" $root | sha256sum }}
  {{- end }}
{{- end }}

{{- define "sluice.podSpec" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}
{{- with $root.Values -}}
{{- with .imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if .hostNetwork }}
hostNetwork: true
{{- end }}
{{- with .dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  # Tokens of the registrar's account are readable to this group.
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- with .topologySpreadConstraints }}
  {{- toYaml . | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: { matchLabels: { app.kubernetes.io/name: {{ $name }} } }
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: { matchLabels: { app.kubernetes.io/name: {{ $name }} } }
{{- end }}
{{- end }}
{{- end }}

{{/* What PodSecurity `restricted` wants of a container. */}}
{{- define "sluice.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* Called with (root, program). */}}
{{- define "sluice.disruptionBudget" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}
{{- if and $root.Values.podDisruptionBudget (gt (int $root.Values.replicaCount) 1) -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "sluice.labels" $name | nindent 4 }}
spec:
  {{- toYaml $root.Values.podDisruptionBudget | nindent 2 }}
  selector: { matchLabels: { app.kubernetes.io/name: {{ $name }} } }
{{- end }}
{{- end }}

{{/* The namespaces that no hook looks into: the API server's own, the nodes' and ours. */}}
{{- define "sluice.otherNamespaces" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: {{ list "kube-system" "kube-node-lease" .Release.Namespace | uniq | toJson }}
{{- with .Values.watchNamespace }}
- key: kubernetes.io/metadata.name
  operator: In
  values: [{{ . }}]
{{- end }}
{{- end }}

{{/* How API servers reach a path of the webhook. Called with (root, path). */}}
{{- define "sluice.clientConfig" -}}
{{- $root := index . 0 }}{{ $path := index . 1 -}}
clientConfig:
  {{- if and (not $root.Values.enableCertManager) $root.Values.webhookTLS.caBundle }}
  caBundle: {{ $root.Values.webhookTLS.caBundle }}
  {{- end }}
  service:
    name: sluice-webhook
    namespace: {{ $root.Release.Namespace }}
    path: {{ $path }}
{{- end }}

{{/* Head of a webhook configuration. Called with (root, name). */}}
{{- define "sluice.hookMetadata" -}}
{{- $root := index . 0 }}{{ $name := index . 1 -}}
metadata:
  name: {{ $name }}
  labels: {{- include "sluice.labels" "sluice-webhook" | nindent 4 }}
  {{- if $root.Values.enableCertManager }}
  annotations:
    cert-manager.io/inject-ca-from: {{ $root.Release.Namespace }}/sluice-webhook
  {{- end }}
{{- end }}

{{/* The Secret that the webhook serves from. */}}
{{- define "sluice.certificateSecret" -}}
{{- if .Values.enableCertManager }}sluice-webhook-tls{{ else }}{{ .Values.webhookTLS.existingSecret }}{{ end }}
{{- end }}
