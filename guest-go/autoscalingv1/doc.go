// Package autoscalingv1 contains the Scale of the API group autoscaling, the subresource "scale" of Deployments and
// other kinds.
package autoscalingv1
