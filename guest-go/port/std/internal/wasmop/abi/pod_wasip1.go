package abi

import (
	"os"
	_ "unsafe" // for linkname
)

// ClusterHost is the name of the API server for clients that run in a Pod.
const ClusterHost = "wasmop.cluster"

const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount/"

//go:linkname putFile syscall.wasmopPutFile
func putFile(path string, content []byte)

func init() { OnStart = enterPod }

// enterPod gives main what it would find in a Pod. The host authenticates to the API server, so the token and the
// certificate are only there to be read.
func enterPod() {
	for name, value := range map[string]string{
		"KUBERNETES_SERVICE_HOST": ClusterHost,
		"KUBERNETES_SERVICE_PORT": "443",
		"HOME":                    "/root",
		"USER":                    "root",
	} {
		if _, ok := os.LookupEnv(name); !ok {
			os.Setenv(name, value)
		}
	}
	putFile(serviceAccountDir+"token", []byte("wasmop"))
	putFile(serviceAccountDir+"ca.crt", []byte(certificate))
	putFile(serviceAccountDir+"namespace", []byte(os.Getenv("POD_NAMESPACE")))
}

// certificate is a self-signed certificate whose private key was discarded.
const certificate = `-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUN8XoHsgK6hjrolpFd/bfaqPXB2wwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGd2FzbW9wMCAXDTI2MTEyOTE0MDMwMloYDzIxMjYxMTA1MTQw
MzAyWjARMQ8wDQYDVQQDDAZ3YXNtb3AwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AARRkROpRh217HIAFZFyL75DM0J1JKFCm0TH9g/YdF2QK/rYDAY8xlWYjb5or8e7
Bied19IbRnNuNNxuDHSkyapao1MwUTAdBgNVHQ4EFgQU9TWKi37U3PAus4XhGSxM
j4ElrmcwHwYDVR0jBBgwFoAU9TWKi37U3PAus4XhGSxMj4ElrmcwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiB5j1KKeb0Bf1HBaHFPFaBCmzxtvNZL
pvBPTG/0+Gd9+QIhAPa2B1JnMsors5ds3e/0IdHGY0KQFZ764PwKxBoZxI4l
-----END CERTIFICATE-----
`
