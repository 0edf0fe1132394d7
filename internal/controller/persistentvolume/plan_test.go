package persistentvolume

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	volumehelpers "k8s.io/component-helpers/storage/volume"
)

func volumeOf(name, size string, edit ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:         corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: "slow", PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	for _, f := range edit {
		f(v)
	}
	return v
}

func claimOf(edit ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "u"},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: new("slow"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	for _, f := range edit {
		f(c)
	}
	return c
}

// ref makes a volume name the claim with that UID.
func ref(uid types.UID) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: "c", UID: uid}
	}
}

func TestWhatIsDueForAClaim(t *testing.T) {
	named := func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "v" }
	complete := func(c *corev1.PersistentVolumeClaim) {
		c.Annotations = map[string]string{volumehelpers.AnnBindCompleted: "yes"}
	}
	classless := func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil }
	modes := func(v *corev1.PersistentVolume) {
		v.Spec.AccessModes = append(v.Spec.AccessModes, corev1.ReadOnlyMany)
	}
	for name, test := range map[string]struct {
		claim       *corev1.PersistentVolumeClaim
		volumes     []*corev1.PersistentVolume
		provisioner string
		delayed     bool
		standard    string

		bind, class, asked, event string
		phase                     corev1.PersistentVolumeClaimPhase
	}{
		"the smallest volume that is large enough":             {claim: claimOf(), volumes: []*corev1.PersistentVolume{volumeOf("a", "1Gi"), volumeOf("b", "5Gi"), volumeOf("c", "3Gi")}, bind: "c"},
		"one with fewer modes before a smaller one":            {claim: claimOf(), volumes: []*corev1.PersistentVolume{volumeOf("a", "2Gi", modes), volumeOf("b", "5Gi")}, bind: "b"},
		"one that was meant for it before all others":          {claim: claimOf(), volumes: []*corev1.PersistentVolume{volumeOf("a", "2Gi"), volumeOf("b", "5Gi", ref("u"))}, bind: "b"},
		"never one that was meant for another":                 {claim: claimOf(), volumes: []*corev1.PersistentVolume{volumeOf("a", "2Gi", ref("x"))}, provisioner: "p", asked: "p", event: "ExternalProvisioning"},
		"it waits for the volume that it names":                {claim: claimOf(named), phase: corev1.ClaimPending},
		"it gets the volume that it names":                     {claim: claimOf(named), volumes: []*corev1.PersistentVolume{volumeOf("v", "2Gi")}, bind: "v"},
		"not if that's too small":                              {claim: claimOf(named), volumes: []*corev1.PersistentVolume{volumeOf("v", "1Gi")}, phase: corev1.ClaimPending, event: "VolumeMismatch"},
		"not if that's another's":                              {claim: claimOf(named), volumes: []*corev1.PersistentVolume{volumeOf("v", "2Gi", ref("x"))}, phase: corev1.ClaimPending, event: "FailedBinding"},
		"the scheduler chooses where the class waits":          {claim: claimOf(), volumes: []*corev1.PersistentVolume{volumeOf("a", "2Gi")}, provisioner: "p", delayed: true, phase: corev1.ClaimPending, event: "WaitForFirstConsumer"},
		"the default class where it has none":                  {claim: claimOf(classless), standard: "std", class: "std"},
		"nothing without any class":                            {claim: claimOf(classless), phase: corev1.ClaimPending, event: "FailedBinding"},
		"an event where its class is unknown":                  {claim: claimOf(), phase: corev1.ClaimPending, event: "ProvisioningFailed"},
		"a bound one whose volume has gone is lost":            {claim: claimOf(named, complete), phase: corev1.ClaimLost, event: "ClaimLost"},
		"a bound one whose volume is another's is lost":        {claim: claimOf(named, complete), volumes: []*corev1.PersistentVolume{volumeOf("v", "2Gi", ref("x"))}, phase: corev1.ClaimLost, event: "ClaimMisbound"},
		"a bound one stays, however large the volume has been": {claim: claimOf(named, complete), volumes: []*corev1.PersistentVolume{volumeOf("v", "1Gi", ref("u"))}, bind: "v"},
	} {
		t.Run(name, func(t *testing.T) {
			mode := storagev1.VolumeBindingImmediate
			if test.delayed {
				mode = storagev1.VolumeBindingWaitForFirstConsumer
			}
			step, err := planClaim(test.claim, world{
				volume: func(name string) *corev1.PersistentVolume {
					for _, v := range test.volumes {
						if v.Name == name {
							return v
						}
					}
					return nil
				},
				volumes: func() []*corev1.PersistentVolume { return test.volumes },
				class: func(string) *storagev1.StorageClass {
					if test.provisioner == "" {
						return nil
					}
					return &storagev1.StorageClass{Provisioner: test.provisioner, VolumeBindingMode: &mode}
				},
				defaultClass: func() string { return test.standard },
				waitingPods:  func() []string { return nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			bind, event := "", ""
			if step.bind != nil {
				bind = step.bind.Name
			}
			if step.notice != nil {
				event = step.notice.reason
			}
			if bind != test.bind || step.class != test.class || step.provisioner != test.asked || event != test.event || step.phase != test.phase {
				t.Errorf("got bind %q, %+v, event %q", bind, step, event)
			}
		})
	}
}

func TestWhatIsDueForAVolume(t *testing.T) {
	policy := func(p corev1.PersistentVolumeReclaimPolicy) func(*corev1.PersistentVolume) {
		return func(v *corev1.PersistentVolume) { v.Spec.PersistentVolumeReclaimPolicy = p }
	}
	made := func(v *corev1.PersistentVolume) {
		v.Annotations = map[string]string{volumehelpers.AnnDynamicallyProvisioned: "example.com/disks"}
	}
	bound := func(to string) *corev1.PersistentVolumeClaim {
		return claimOf(func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = to })
	}
	for name, test := range map[string]struct {
		volume  *corev1.PersistentVolume
		claim   *corev1.PersistentVolumeClaim
		phase   corev1.PersistentVolumePhase
		unbind  bool
		message string
	}{
		"a free one is available":                    {volume: volumeOf("v", "1Gi"), phase: corev1.VolumeAvailable},
		"a bound one is bound":                       {volume: volumeOf("v", "1Gi", ref("u")), claim: bound("v"), phase: corev1.VolumeBound},
		"one that is being bound is let alone":       {volume: volumeOf("v", "1Gi", ref("u")), claim: bound("")},
		"one whose claim has gone is released":       {volume: volumeOf("v", "1Gi", ref("u")), phase: corev1.VolumeReleased},
		"one whose claim got another is free again":  {volume: volumeOf("v", "1Gi", ref("u")), claim: bound("w"), phase: corev1.VolumeAvailable, unbind: true},
		"one that was made is its maker's to delete": {volume: volumeOf("v", "1Gi", ref("u"), policy(corev1.PersistentVolumeReclaimDelete), made), phase: corev1.VolumeReleased},
		"one that nobody can delete fails":           {volume: volumeOf("v", "1Gi", ref("u"), policy(corev1.PersistentVolumeReclaimDelete)), phase: corev1.VolumeFailed, message: "no deletable volume plugin matched"},
		"none is recycled":                           {volume: volumeOf("v", "1Gi", ref("u"), policy(corev1.PersistentVolumeReclaimRecycle)), phase: corev1.VolumeFailed, message: "No recycler plugin found"},
	} {
		t.Run(name, func(t *testing.T) {
			step := planVolume(test.volume, test.claim)
			if step.phase != test.phase || step.unbind != test.unbind || !strings.Contains(step.message, test.message) {
				t.Errorf("got %+v", step)
			}
		})
	}
}
