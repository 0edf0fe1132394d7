package resourcequota

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/quota"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func pod(cpu string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: list("cpu", cpu)}}}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func TestWhatIsCounted(t *testing.T) {
	now := time.Now()
	objects := map[schema.GroupResource][]runtime.Object{
		{Resource: "pods"}: {
			pod("100m"), pod("200m", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](1) }),
			pod("400m", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
			pod("0", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = nil }),
			pod("800m", func(p *corev1.Pod) {
				p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now.Add(-time.Minute)}, ptr.To[int64](30)
			}),
		},
		{Resource: "services"}: {&corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: make([]corev1.ServicePort, 3)}}},
		{Resource: "secrets"}:  make([]runtime.Object, 4),
		{Resource: "persistentvolumeclaims"}: {&corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To("gold"), Resources: corev1.VolumeResourceRequirements{Requests: list("storage", "1Gi")}}}},
	}
	resources := []schema.GroupResource{{Resource: "pods"}, {Resource: "services"}, {Resource: "secrets"}, {Resource: "persistentvolumeclaims"}}
	for _, c := range []struct {
		name    string
		quota   corev1.ResourceQuota
		pending corev1.ResourceList
		want    corev1.ResourceList
	}{
		{"pods that run, objects, ports and storage",
			corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: list("pods", "9", "count/pods", "9", "requests.cpu", "9", "services.nodeports", "9", "secrets", "9", "count/secrets", "9", "gold.storageclass.storage.k8s.io/requests.storage", "9Gi")}}, nil,
			list("pods", "3", "count/pods", "5", "requests.cpu", "300m", "services.nodeports", "3", "secrets", "4", "count/secrets", "4", "gold.storageclass.storage.k8s.io/requests.storage", "1Gi")},
		{"a scope", corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: list("pods", "9"), Scopes: []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeTerminating}}}, nil, list("pods", "1")},
		{"another scope", corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: list("pods", "9"), Scopes: []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort}}}, nil, list("pods", "1")},
		{"what is under way", corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: list("secrets", "9")}}, list("secrets", "2", "count/secrets", "2"), list("secrets", "6")},
		{"names that nobody knows stay", corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: list("odd", "9")}, Status: corev1.ResourceQuotaStatus{Used: list("odd", "3", "gone", "1")}}, nil, list("odd", "3")},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := counted(&c.quota, resources, quota.Devices{}, func(gr schema.GroupResource) ([]runtime.Object, error) { return objects[gr], nil }, c.pending, now)
			if err != nil || !quota.Equal(got.Used, c.want) || !dirty(&c.quota, got) {
				t.Errorf("got %v, %v", got.Used, err)
			}
		})
	}
}

func TestWhatFreesUsage(t *testing.T) {
	done := func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }
	for name, c := range map[string]struct {
		old, now runtime.Object
		want     bool
	}{
		"a pod that ends":          {pod("1"), pod("1", done), true},
		"a pod that stays ended":   {pod("1", done), pod("1", done), false},
		"a pod whose status moves": {pod("1"), pod("1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }), false},
		"a pod that was resized":   {pod("2"), pod("1"), true},
		"a secret":                 {&corev1.Secret{}, &corev1.Secret{}, false},
	} {
		if got := freed(c.old, c.now); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestTheLedgerHoldsWhatIsNotYetSeen(t *testing.T) {
	var l quota.Ledger
	now := time.Now()
	seen := false
	see := func(schema.GroupResource, string, string) bool { return seen }
	r := &quota.Reservation{Namespace: "ns", Quota: "q", Name: "o", Delta: list("pods", "1")}
	expect := func(name string, want corev1.ResourceList, settled bool) {
		t.Helper()
		if got, ok := l.Pending("ns", name, see, now); !quota.Equal(got, want) || ok != settled {
			t.Errorf("got %v, %t", got, ok)
		}
	}
	l.Reserve(r)
	expect("q", r.Delta, false)
	l.Claimed(r)
	expect("q", r.Delta, true)
	l.Commit(r, now)
	expect("q", r.Delta, true)
	expect("other", nil, true)
	seen = true
	for range 2 {
		expect("q", nil, true)
	}
}
