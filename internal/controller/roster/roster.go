// Package roster lists the controllers that keep workloads, Services and nodes going, with the users that they act as.
package roster

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/attachdetach"
	"clipper.dev/clipper/internal/controller/cronjob"
	"clipper.dev/clipper/internal/controller/daemonset"
	"clipper.dev/clipper/internal/controller/deployment"
	"clipper.dev/clipper/internal/controller/devicetainteviction"
	"clipper.dev/clipper/internal/controller/disruption"
	"clipper.dev/clipper/internal/controller/endpoints"
	"clipper.dev/clipper/internal/controller/endpointslice"
	"clipper.dev/clipper/internal/controller/endpointslicemirroring"
	"clipper.dev/clipper/internal/controller/ephemeralvolume"
	"clipper.dev/clipper/internal/controller/garbagecollector"
	"clipper.dev/clipper/internal/controller/job"
	"clipper.dev/clipper/internal/controller/kubernetesservice"
	"clipper.dev/clipper/internal/controller/localpath"
	"clipper.dev/clipper/internal/controller/namespace"
	"clipper.dev/clipper/internal/controller/nodeipam"
	"clipper.dev/clipper/internal/controller/nodelifecycle"
	"clipper.dev/clipper/internal/controller/persistentvolume"
	"clipper.dev/clipper/internal/controller/podgc"
	"clipper.dev/clipper/internal/controller/pvcprotection"
	"clipper.dev/clipper/internal/controller/pvprotection"
	"clipper.dev/clipper/internal/controller/replicaset"
	"clipper.dev/clipper/internal/controller/resourceclaim"
	"clipper.dev/clipper/internal/controller/servicecidr"
	"clipper.dev/clipper/internal/controller/statefulset"
	"clipper.dev/clipper/internal/controller/tainteviction"
	"clipper.dev/clipper/internal/controller/ttlafterfinished"
	"clipper.dev/clipper/internal/controller/vacprotection"
	"clipper.dev/clipper/internal/controller/volumeexpand"
)

// Config is what the controllers must know of their cluster.
type Config struct {
	// ClusterCIDRs are the pods' ranges. None are given to nodes if it is empty.
	ClusterCIDRs []netip.Prefix
	// NodeBits is the prefix length of a node's range; 0 is 24 for IPv4 and 64 for IPv6.
	NodeBits int
	// Kubernetes is the API's own Service; its zero value leaves it out.
	Kubernetes kubernetesservice.Config
}

// Constructors returns the controllers.
func Constructors(cfg Config) []controller.Constructor {
	out := []controller.Constructor{
		{Name: "deployment", New: deployment.New, Needs: needs(client.Deployments.GVR, client.ReplicaSets.GVR)},
		{Name: "replicaset", New: replicaset.New, Needs: needs(client.ReplicaSets.GVR)},
		{Name: "replication", New: replicaset.NewReplicationController, Needs: needs(client.ReplicationControllers.GVR)},
		{Name: "daemon-set", New: daemonset.New, Needs: needs(client.DaemonSets.GVR, client.ControllerRevisions.GVR)},
		{Name: "statefulset", New: statefulset.New, Needs: needs(client.StatefulSets.GVR, client.ControllerRevisions.GVR, client.PersistentVolumeClaims.GVR)},
		{Name: "job", New: job.New, Needs: needs(client.Jobs.GVR)},
		{Name: "cronjob", New: cronjob.New, Needs: needs(client.CronJobs.GVR, client.Jobs.GVR)},
		{Name: "endpoint", New: endpoints.New},
		{Name: "endpointslice", New: endpointslice.New},
		{Name: "endpointslicemirroring", New: endpointslicemirroring.New},
		{Name: "namespace", New: namespace.New},
		{Name: "garbage-collector", User: user("generic-garbage-collector"), New: garbagecollector.New},
		{Name: "node-lifecycle", User: user("node-controller"), New: nodelifecycle.New},
		{Name: "taint-eviction", User: user("node-controller"), New: tainteviction.New},
		{Name: "pod-garbage-collector", User: user("pod-garbage-collector"), New: podgc.New},
		{Name: "disruption", New: disruption.New, Needs: needs(client.PodDisruptionBudgets.GVR, client.StatefulSets.GVR)},
		{Name: "ttl-after-finished", New: ttlafterfinished.New, Needs: needs(client.Jobs.GVR)},
		{Name: "persistentvolume-binder", User: user("persistent-volume-binder"), New: persistentvolume.New,
			Needs: needs(client.PersistentVolumes.GVR, client.PersistentVolumeClaims.GVR, client.StorageClasses.GVR)},
		{Name: "persistentvolume-attach-detach", User: user("attachdetach-controller"), New: attachdetach.New,
			Needs: needs(client.PersistentVolumes.GVR, client.PersistentVolumeClaims.GVR, client.CSIDrivers.GVR, client.VolumeAttachments.GVR)},
		{Name: "persistentvolume-expander", User: user("expand-controller"), New: volumeexpand.New,
			Needs: needs(client.PersistentVolumes.GVR, client.PersistentVolumeClaims.GVR)},
		{Name: "persistentvolume-protection", User: user("pv-protection-controller"), New: pvprotection.New, Needs: needs(client.PersistentVolumes.GVR)},
		{Name: "persistentvolumeclaim-protection", User: user("pvc-protection-controller"), New: pvcprotection.New, Needs: needs(client.PersistentVolumeClaims.GVR)},
		{Name: "volumeattributesclass-protection", New: vacprotection.New,
			Needs: needs(client.VolumeAttributesClasses.GVR, client.PersistentVolumes.GVR, client.PersistentVolumeClaims.GVR)},
		{Name: "local-path", User: user("local-path-provisioner"), New: localpath.New,
			Needs: needs(client.PersistentVolumes.GVR, client.PersistentVolumeClaims.GVR, client.StorageClasses.GVR)},
		{Name: "resourceclaim", User: user("resource-claim-controller"), New: resourceclaim.New,
			Needs: needs(client.ResourceClaims.GVR, client.ResourceClaimTemplates.GVR)},
		{Name: "device-taint-eviction", New: devicetainteviction.New, Needs: needs(client.ResourceClaims.GVR, client.ResourceSlices.GVR)},
		{Name: "ephemeral-volume", New: ephemeralvolume.New, Needs: needs(client.PersistentVolumeClaims.GVR)},
	}
	service := servicecidr.Constructor()
	service.Needs = needs(client.ServiceCIDRs.GVR, client.IPAddresses.GVR)
	out = append(out, service)
	if len(cfg.ClusterCIDRs) > 0 {
		out = append(out, nodeipam.Constructor(nodeipam.Config{ClusterCIDRs: cfg.ClusterCIDRs, NodeBits: cfg.NodeBits}))
	}
	if cfg.Kubernetes.Addresses != nil {
		out = append(out, kubernetesservice.Constructor(cfg.Kubernetes))
	}
	return out
}

func needs(list ...schema.GroupVersionResource) []schema.GroupVersionResource { return list }

func user(account string) string { return "system:serviceaccount:kube-system:" + account }
