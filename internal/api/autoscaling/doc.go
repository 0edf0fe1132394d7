// Package autoscaling has the row of autoscaling: HorizontalPodAutoscaler, which is stored as v2 and served as v1 and v2.
package autoscaling
