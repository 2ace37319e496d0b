package corev1

import (
	"github.com/wasmop/wasmop/guest-go/metav1"
	"github.com/wasmop/wasmop/guest-go/resource"
)

// Container is a program of a Pod.
type Container struct {
	Name            string               `json:"name"`
	Image           string               `json:"image,omitempty"`
	ImagePullPolicy string               `json:"imagePullPolicy,omitempty"`
	Command         []string             `json:"command,omitempty"`
	Args            []string             `json:"args,omitempty"`
	WorkingDir      string               `json:"workingDir,omitempty"`
	Ports           []ContainerPort      `json:"ports,omitempty"`
	Env             []EnvVar             `json:"env,omitempty"`
	EnvFrom         []EnvFrom            `json:"envFrom,omitempty"`
	Resources       ResourceRequirements `json:"resources,omitzero"`
	VolumeMounts    []VolumeMount        `json:"volumeMounts,omitempty"`
	LivenessProbe   *Probe               `json:"livenessProbe,omitempty"`
	ReadinessProbe  *Probe               `json:"readinessProbe,omitempty"`
	StartupProbe    *Probe               `json:"startupProbe,omitempty"`
	SecurityContext *SecurityContext     `json:"securityContext,omitempty"`
}

// ContainerPort is a port a container listens on.
type ContainerPort struct {
	Name          string `json:"name,omitempty"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol,omitempty"`
}

// EnvVar is an environment variable.
type EnvVar struct {
	Name      string        `json:"name"`
	Value     string        `json:"value,omitempty"`
	ValueFrom *EnvVarSource `json:"valueFrom,omitempty"`
}

// EnvVarSource says where the value of a variable comes from; one field is set.
type EnvVarSource struct {
	FieldRef        *FieldSelector `json:"fieldRef,omitempty"`
	ConfigMapKeyRef *KeySelector   `json:"configMapKeyRef,omitempty"`
	SecretKeyRef    *KeySelector   `json:"secretKeyRef,omitempty"`
}

// EnvFrom makes a variable of each key of a ConfigMap or Secret.
type EnvFrom struct {
	Prefix       string          `json:"prefix,omitempty"`
	ConfigMapRef *LocalReference `json:"configMapRef,omitempty"`
	SecretRef    *LocalReference `json:"secretRef,omitempty"`
}

// FieldSelector names a field of the Pod.
type FieldSelector struct {
	FieldPath string `json:"fieldPath"`
}

// KeySelector names a key of a ConfigMap or Secret.
type KeySelector struct {
	Name     string `json:"name,omitempty"`
	Key      string `json:"key"`
	Optional *bool  `json:"optional,omitempty"`
}

// ResourceList maps resource names such as "cpu" to quantities such as "100m".
type ResourceList map[string]resource.Quantity

// ResourceRequirements bounds what a container may use.
type ResourceRequirements struct {
	Limits   ResourceList `json:"limits,omitempty"`
	Requests ResourceList `json:"requests,omitempty"`
}

// Probe says how to ask a container for its health.
type Probe struct {
	HTTPGet             *HTTPGetAction   `json:"httpGet,omitempty"`
	TCPSocket           *TCPSocketAction `json:"tcpSocket,omitempty"`
	Exec                *ExecAction      `json:"exec,omitempty"`
	InitialDelaySeconds int32            `json:"initialDelaySeconds,omitempty"`
	TimeoutSeconds      int32            `json:"timeoutSeconds,omitempty"`
	PeriodSeconds       int32            `json:"periodSeconds,omitempty"`
	SuccessThreshold    int32            `json:"successThreshold,omitempty"`
	FailureThreshold    int32            `json:"failureThreshold,omitempty"`
}

// HTTPGetAction asks by an HTTP request.
type HTTPGetAction struct {
	Path   string             `json:"path,omitempty"`
	Port   metav1.IntOrString `json:"port"`
	Scheme string             `json:"scheme,omitempty"`
}

// TCPSocketAction asks by opening a connection.
type TCPSocketAction struct {
	Port metav1.IntOrString `json:"port"`
}

// ExecAction asks by running a command.
type ExecAction struct {
	Command []string `json:"command,omitempty"`
}

// SecurityContext restricts a container, or a Pod as far as the fields apply to it.
type SecurityContext struct {
	RunAsUser                *int64        `json:"runAsUser,omitempty"`
	RunAsGroup               *int64        `json:"runAsGroup,omitempty"`
	RunAsNonRoot             *bool         `json:"runAsNonRoot,omitempty"`
	FSGroup                  *int64        `json:"fsGroup,omitempty"`
	ReadOnlyRootFilesystem   *bool         `json:"readOnlyRootFilesystem,omitempty"`
	AllowPrivilegeEscalation *bool         `json:"allowPrivilegeEscalation,omitempty"`
	Capabilities             *Capabilities `json:"capabilities,omitempty"`
}

// Capabilities adds to and drops from a container's POSIX capabilities.
type Capabilities struct {
	Add  []string `json:"add,omitempty"`
	Drop []string `json:"drop,omitempty"`
}

// VolumeMount puts a Pod's volume into a container.
type VolumeMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
	SubPath   string `json:"subPath,omitempty"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
}

// Volume is storage of a Pod; one of the sources is set.
type Volume struct {
	Name                  string                 `json:"name"`
	ConfigMap             *ConfigMapVolume       `json:"configMap,omitempty"`
	Secret                *SecretVolume          `json:"secret,omitempty"`
	EmptyDir              *EmptyDirVolume        `json:"emptyDir,omitempty"`
	PersistentVolumeClaim *PersistentVolumeClaim `json:"persistentVolumeClaim,omitempty"`
}

// ConfigMapVolume shows a ConfigMap's keys as files.
type ConfigMapVolume struct {
	Name        string      `json:"name,omitempty"`
	Items       []KeyToPath `json:"items,omitempty"`
	DefaultMode *int32      `json:"defaultMode,omitempty"`
	Optional    *bool       `json:"optional,omitempty"`
}

// SecretVolume shows a Secret's keys as files.
type SecretVolume struct {
	SecretName  string      `json:"secretName,omitempty"`
	Items       []KeyToPath `json:"items,omitempty"`
	DefaultMode *int32      `json:"defaultMode,omitempty"`
	Optional    *bool       `json:"optional,omitempty"`
}

// KeyToPath names the file for a key.
type KeyToPath struct {
	Key  string `json:"key"`
	Path string `json:"path"`
	Mode *int32 `json:"mode,omitempty"`
}

// EmptyDirVolume is a directory that lives as long as the Pod.
type EmptyDirVolume struct {
	Medium    string            `json:"medium,omitempty"`
	SizeLimit resource.Quantity `json:"sizeLimit,omitempty"`
}

// PersistentVolumeClaim uses a claim in the same namespace.
type PersistentVolumeClaim struct {
	ClaimName string `json:"claimName"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
}
