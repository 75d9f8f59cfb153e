{{- define "sluice.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" | replace "sluice-sluice" "sluice" -}}
{{- end -}}

{{- define "sluice.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Labels of the installation; with `role`, those that select the pods of a role. Arguments: root, role */}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{/* By role: the module, the login in PostgreSQL, the consumer group and the topics that it scales by; whether it reads credentials. */}}
{{- define "sluice.roles" -}}
gateway: {module: gateway, login: gateway, credentials: true}
router: {module: router, login: router, group: router, topics: [deliveries.accepted, deliveries.reroute]}
email-worker: {module: email_worker, login: worker, group: email-worker, topics: [deliveries.email], credentials: true}
sms-worker: {module: sms_worker, login: worker, group: sms-worker, topics: [deliveries.sms, deliveries.whatsapp, deliveries.telegram, deliveries.signal], credentials: true}
push-worker: {module: push_worker, login: worker, group: push-worker, topics: [deliveries.push], credentials: true}
event-worker: {module: event_worker, login: event-worker, group: event-worker, topics: [delivery.events], credentials: true}
health: {module: health, login: health}
{{- end -}}

{{/* By role, what it calls besides PostgreSQL, Kafka and Redis: names of networkPolicy.NAMEPorts. Roles without an entry call nothing. */}}
{{- define "sluice.calls" -}}
# Test calls of providers, and the certificates and confirmations that their receipts name; invitations.
gateway: [provider, mail]
email-worker: [provider, mail]
sms-worker: [provider, smpp]
push-worker: [provider]
# Webhooks of customers, and the notice that one was disabled.
event-worker: [webhook, mail]
{{- if .Values.cli.enabled }}
# `sluice doctor` calls the public address.
cli: [provider]
{{- end }}
{{- end -}}

{{- define "sluice.dsn" -}}
postgresql://{{ .login }}@{{ .root.Values.postgres.host }}:{{ .root.Values.postgres.port }}/{{ .root.Values.postgres.database }}{{ with .root.Values.postgres.parameters }}?{{ . }}{{ end }}
{{- end -}}

{{- define "sluice.password" -}}
valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end -}}

{{/* A login of PostgreSQL. Arguments: root, login */}}
{{- define "sluice.postgres.env" -}}
- {name: SLUICE_POSTGRES_DSN, value: {{ include "sluice.dsn" (dict "root" .root "login" (printf "sluice_%s" (replace "-" "_" .login))) | quote }}}
- name: PGPASSWORD
  {{- include "sluice.password" (dict "secret" .root.Values.postgres.passwordSecret "key" .login) | nindent 2 }}
{{- end -}}

{{- define "sluice.redis.env" -}}
{{- if .Values.redis.url }}
- {name: SLUICE_REDIS_URL, value: {{ .Values.redis.url | quote }}}
{{- with .Values.redis.passwordSecret }}
- name: SLUICE_REDIS_PASSWORD
  {{- include "sluice.password" (dict "secret" . "key" "password") | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Settings as variables. Those of a role replace the common ones of the same name, also with 0, false or an empty text. What is no text is
written as JSON: as text, Go writes a large number as 2.6e+07 and a list without commas. Arguments: root, roles
*/}}
{{- define "sluice.settings" -}}
{{- $plain := dict }}
{{- $secret := dict }}
{{- range prepend .roles .root.Values }}
{{- range $name, $value := .settings }}
{{- $_ := set $plain $name $value }}
{{- $_ := unset $secret $name }}
{{- end }}
{{- range $name, $value := .secretSettings }}
{{- $_ := set $secret $name $value }}
{{- $_ := unset $plain $name }}
{{- end }}
{{- end }}
{{- range $name, $value := $plain }}
- {name: {{ $name }}, value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}}
{{- end }}
{{- range $name, $value := $secret }}
- name: {{ $name }}
  {{- include "sluice.password" $value | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The variables of Kafka. */}}
{{- define "sluice.kafka.env" -}}
- {name: SLUICE_KAFKA_BOOTSTRAP_SERVERS, value: {{ .Values.kafka.bootstrapServers | quote }}}
- {name: SLUICE_KAFKA_SECURITY_PROTOCOL, value: {{ .Values.kafka.securityProtocol | quote }}}
{{- if hasPrefix "SASL" .Values.kafka.securityProtocol }}
- {name: SLUICE_KAFKA_SASL_MECHANISM, value: {{ .Values.kafka.saslMechanism | quote }}}
{{- with .Values.kafka.username }}
- {name: SLUICE_KAFKA_USERNAME, value: {{ . | quote }}}
{{- end }}
{{- with .Values.kafka.passwordSecret }}
- name: SLUICE_KAFKA_PASSWORD
  {{- include "sluice.password" (dict "secret" . "key" "password") | nindent 2 }}
{{- end }}
{{- end }}
{{- if .Values.kafka.tlsSecret }}
- {name: SLUICE_KAFKA_CA_FILE, value: /etc/sluice/tls/kafka/ca.crt}
{{- if .Values.kafka.clientCertificate }}
- {name: SLUICE_KAFKA_CERTIFICATE_FILE, value: /etc/sluice/tls/kafka/tls.crt}
- {name: SLUICE_KAFKA_KEY_FILE, value: /etc/sluice/tls/kafka/tls.key}
{{- end }}
{{- end }}
{{- end -}}

{{- define "sluice.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- range $name := list "postgres" "kafka" "redis" }}
{{- if (index $.Values $name).tlsSecret }}
- {name: tls-{{ $name }}, mountPath: /etc/sluice/tls/{{ $name }}, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{- define "sluice.volumes" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- range $name := list "postgres" "kafka" "redis" }}
{{- with (index $.Values $name).tlsSecret }}
- name: tls-{{ $name }}
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end -}}

{{- define "sluice.encryption.volume" -}}
- name: encryption
  secret:
    secretName: {{ .Values.encryption.secret }}
    defaultMode: 0440
    items: [{key: {{ .Values.encryption.key }}, path: credentials.key}]
{{- end -}}

{{- define "sluice.pod.security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "sluice.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "sluice.pod.common" -}}
automountServiceAccountToken: false
# Or a Service sluice-sms-link would be the setting SLUICE_SMS_LINK_PORT: Kubernetes makes variables of the names of Services.
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext: {{ include "sluice.pod.security" . | nindent 2 }}
{{- end -}}
