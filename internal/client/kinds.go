package client

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// Further kinds, those that controllers work on.
var (
	PersistentVolumes        = kindOf[*corev1.PersistentVolume](corev1.SchemeGroupVersion, "persistentvolumes")
	StorageClasses           = kindOf[*storagev1.StorageClass](storagev1.SchemeGroupVersion, "storageclasses")
	VolumeAttributesClasses  = kindOf[*storagev1.VolumeAttributesClass](storagev1.SchemeGroupVersion, "volumeattributesclasses")
	PersistentVolumeClaims   = kindOf[*corev1.PersistentVolumeClaim](corev1.SchemeGroupVersion, "persistentvolumeclaims")
	EndpointSlices           = kindOf[*discoveryv1.EndpointSlice](discoveryv1.SchemeGroupVersion, "endpointslices")
	Leases                   = kindOf[*coordinationv1.Lease](coordinationv1.SchemeGroupVersion, "leases")
	DaemonSets               = kindOf[*appsv1.DaemonSet](appsv1.SchemeGroupVersion, "daemonsets")
	StatefulSets             = kindOf[*appsv1.StatefulSet](appsv1.SchemeGroupVersion, "statefulsets")
	ControllerRevisions      = kindOf[*appsv1.ControllerRevision](appsv1.SchemeGroupVersion, "controllerrevisions")
	Jobs                     = kindOf[*batchv1.Job](batchv1.SchemeGroupVersion, "jobs")
	CronJobs                 = kindOf[*batchv1.CronJob](batchv1.SchemeGroupVersion, "cronjobs")
	PodDisruptionBudgets     = kindOf[*policyv1.PodDisruptionBudget](policyv1.SchemeGroupVersion, "poddisruptionbudgets")
	HorizontalPodAutoscalers = kindOf[*autoscalingv2.HorizontalPodAutoscaler](autoscalingv2.SchemeGroupVersion, "horizontalpodautoscalers")
	ServiceCIDRs             = kindOf[*networkingv1.ServiceCIDR](networkingv1.SchemeGroupVersion, "servicecidrs")
	IPAddresses              = kindOf[*networkingv1.IPAddress](networkingv1.SchemeGroupVersion, "ipaddresses")
)
