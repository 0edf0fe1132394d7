package quota

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/client"
)

// known is a view of fixed objects.
type known struct {
	client.View
	objects []client.Object
}

func (k known) Get(namespace, name string) (client.Object, bool) {
	for _, o := range k.objects {
		if o.GetNamespace() == namespace && o.GetName() == name {
			return o, true
		}
	}
	return nil, false
}

func (k known) List(string, labels.Selector) []client.Object { return k.objects }

func quantities(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func exactly(class string, mode resourcev1.DeviceAllocationMode, n int64) resourcev1.DeviceRequest {
	return resourcev1.DeviceRequest{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: class, AllocationMode: mode, Count: n}}
}

func alternative(class string, n int64) resourcev1.DeviceSubRequest {
	return resourcev1.DeviceSubRequest{Name: class, DeviceClassName: class, AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: n}
}

func claimFor(pod string, uid types.UID, requests ...resourcev1.DeviceRequest) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "claim"}, Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: requests}}}
	if pod != "" {
		c.Annotations = map[string]string{resourcev1.ExtendedResourceClaimAnnotation: "true"}
		c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod, UID: uid, Controller: ptr.To(true)}}
	}
	return c
}

func TestClaimsCountTheDevicesTheyMayGet(t *testing.T) {
	const exact, all = resourcev1.DeviceAllocationModeExactCount, resourcev1.DeviceAllocationModeAll
	const count, per, requested, implicit = "count/resourceclaims.resource.k8s.io", ".deviceclass.resource.k8s.io/devices", "requests.example.com/gpu", "requests.deviceclass.resource.kubernetes.io/"
	class := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}, Spec: resourcev1.DeviceClassSpec{ExtendedResourceName: ptr.To("example.com/gpu")}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod", UID: "uid"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Resources: corev1.ResourceRequirements{Requests: quantities("example.com/gpu", "2"), Limits: quantities("example.com/gpu", "2")}}}}}
	devices := Devices{
		Classes: client.TypedView[*resourcev1.DeviceClass]{View: known{objects: []client.Object{class, &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "nic"}}}}},
		Pods:    client.TypedView[*corev1.Pod]{View: known{objects: []client.Object{pod}}},
		Claims:  client.TypedView[*resourcev1.ResourceClaim]{View: known{}},
	}
	e := For(resourcev1.Resource("resourceclaims"), devices)
	for _, test := range []struct {
		name  string
		claim *resourcev1.ResourceClaim
		want  corev1.ResourceList
	}{
		{"by class, and by the resource that it stands for", claimFor("", "", exactly("gpu", exact, 2), exactly("gpu", exact, 1)),
			quantities(count, "1", "gpu"+per, "3", requested, "3", implicit+"gpu", "3")},
		{"a class that stands for none", claimFor("", "", exactly("nic", exact, 1)), quantities(count, "1", "nic"+per, "1", implicit+"nic", "1")},
		{"all that match, at worst", claimFor("", "", exactly("nic", all, 0)), quantities(count, "1", "nic"+per, "32", implicit+"nic", "32")},
		{"the worst of the alternatives of each class", claimFor("", "", resourcev1.DeviceRequest{Name: "r", FirstAvailable: []resourcev1.DeviceSubRequest{alternative("nic", 2), alternative("nic", 4), alternative("other", 1)}}),
			quantities(count, "1", "nic"+per, "4", implicit+"nic", "4", "other"+per, "1", implicit+"other", "1")},
		{"what the pod itself counts isn't counted twice", claimFor("pod", "uid", exactly("gpu", exact, 2)), quantities(count, "1", "gpu"+per, "2", implicit+"gpu", "2")},
		{"more than the pod counts", claimFor("pod", "uid", exactly("gpu", exact, 5)), quantities(count, "1", "gpu"+per, "5", requested, "3", implicit+"gpu", "5")},
		{"a claim that only says it is a pod's", claimFor("pod", "other", exactly("gpu", exact, 2)), quantities(count, "1", "gpu"+per, "2", requested, "2", implicit+"gpu", "2")},
	} {
		if got := e.Usage(test.claim, time.Now()); !Equal(got, test.want) {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	asked := []corev1.ResourceName{count, "gpu" + per, "unknown" + per, requested, implicit + "nic", implicit + "unknown", "requests.example.com/other", "requests.cpu", "pods"}
	if got := e.Names(asked); len(got) != 5 {
		t.Errorf("names: %v", got)
	}
	if got := (pods{}).Names(asked); len(got) != 6 {
		t.Errorf("names of pods: %v", got)
	}
}
