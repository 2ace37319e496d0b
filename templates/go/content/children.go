package main

import (
	"github.com/wasmop/wasmop/guest-go/appsv1"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

const httpPort = 80

// The names of the children contain the project's name, so that other controllers can have Websites in the same
// namespace. The controller uses server-side apply, so the children contain only the fields that it owns.

func configMapFor(site *Website) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: childMeta(site),
		Data:       map[string]string{"index.html": site.Spec.Content},
	}
}

func deploymentFor(site *Website) *appsv1.Deployment {
	replicas := site.Spec.Replicas
	return &appsv1.Deployment{
		ObjectMeta: childMeta(site),
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels(site)},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels(site)},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{
						Name:         "server",
						Image:        site.Spec.Image,
						Ports:        []corev1.ContainerPort{{ContainerPort: httpPort}},
						VolumeMounts: []corev1.VolumeMount{{Name: "page", MountPath: "/usr/share/nginx/html", ReadOnly: true}},
					}},
					Volumes: []corev1.Volume{{
						Name:      "page",
						ConfigMap: &corev1.ConfigMapVolume{Name: childName(site)},
					}},
				},
			},
		},
	}
}

func serviceFor(site *Website) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: childMeta(site),
		Spec: corev1.ServiceSpec{
			Selector: labels(site),
			Ports:    []corev1.ServicePort{{Name: "http", Port: httpPort, TargetPort: metav1.FromInt(httpPort)}},
		},
	}
}

func childMeta(site *Website) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: site.Namespace, Name: childName(site), Labels: labels(site)}
}

func childName(site *Website) string {
	return site.Name + "-" + project
}

func labels(site *Website) map[string]string {
	return map[string]string{"app.kubernetes.io/name": site.Name, "app.kubernetes.io/managed-by": project}
}
