package plugins

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/client"
)

func quantities(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func TestLimitRanger(t *testing.T) {
	limits := &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "l"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{Type: corev1.LimitTypeContainer, Default: quantities("cpu", "500m"), DefaultRequest: quantities("cpu", "100m"), Min: quantities("cpu", "50m"), Max: quantities("cpu", "1"), MaxLimitRequestRatio: quantities("cpu", "5")},
		{Type: corev1.LimitTypePersistentVolumeClaim, Max: quantities("storage", "1Gi")},
	}}}
	p, _ := plugin(t, "LimitRanger", limits)
	with := func(requests, limits corev1.ResourceList) *corev1.Pod {
		return pod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
		})
	}
	plain := with(nil, nil)
	check(t, judge(t, p, request(admission.Create, "", plain, nil)), "")
	if r := plain.Spec.Containers[0].Resources; r.Requests.Cpu().String() != "100m" || r.Limits.Cpu().String() != "500m" ||
		plain.Annotations[limitRangerAnnotation] != "LimitRanger plugin set: cpu request for container c; cpu limit for container c" {
		t.Errorf("got %+v, %v", r, plain.Annotations)
	}
	for _, c := range []struct {
		name string
		r    *admission.Request
		err  string
	}{
		{"too little", request(admission.Create, "", with(quantities("cpu", "10m"), nil), nil), `pods "p" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, cpu max limit to request ratio per Container is 5, but provided ratio is 50.000000]`},
		{"too much", request(admission.Create, "", with(quantities("cpu", "1"), quantities("cpu", "2")), nil), "maximum cpu usage per Container is 1, but limit is 2"},
		{"updates are left alone", request(admission.Update, "", with(quantities("cpu", "10m"), nil), plain), ""},
		{"a claim that is too big", request(admission.Create, "", &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"},
			Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: quantities("storage", "2Gi")}}}, nil),
			"maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, judge(t, p, c.r), c.err) })
	}
}

func TestPodSecurity(t *testing.T) {
	labelled := func(name string, labels map[string]string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	}
	p, _ := plugin(t, "PodSecurity", labelled("free", nil), labelled("base", map[string]string{"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}))
	in := func(ns string, host bool) *corev1.Pod {
		return pod("p", func(p *corev1.Pod) { p.Namespace, p.Spec.HostNetwork = ns, host })
	}
	check(t, judge(t, p, request(admission.Create, "", in("free", true), nil)), "")
	check(t, judge(t, p, request(admission.Create, "", in("base", true), nil)), `pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`)
	r := request(admission.Create, "", in("base", false), nil)
	check(t, judge(t, p, r), "")
	if len(r.Warnings) != 1 || r.Annotations["pod-security.kubernetes.io/enforce-policy"] != "baseline:latest" {
		t.Errorf("got %v, %v", r.Warnings, r.Annotations)
	}
}

func TestStorageDefaults(t *testing.T) {
	class := func(name string, def, grows bool) *storagev1.StorageClass {
		return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": fmt.Sprint(def)}}, AllowVolumeExpansion: &grows}
	}
	claim := func(class *string, size string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"},
			Spec:   corev1.PersistentVolumeClaimSpec{StorageClassName: class, Resources: corev1.VolumeResourceRequirements{Requests: quantities("storage", size)}},
			Status: corev1.PersistentVolumeClaimStatus{Phase: phase}}
	}
	objects := []client.Object{class("b", true, true), class("a", true, false), class("z", false, true)}
	defaults, _ := plugin(t, "DefaultStorageClass", objects...)
	c := claim(nil, "1Gi", "")
	check(t, judge(t, defaults, request(admission.Create, "", c, nil)), "")
	if *c.Spec.StorageClassName != "a" && *c.Spec.StorageClassName != "b" {
		t.Errorf("got %q", *c.Spec.StorageClassName)
	}
	none := claim(ptr.To(""), "1Gi", "")
	check(t, judge(t, defaults, request(admission.Create, "", none, nil)), "")
	if *none.Spec.StorageClassName != "" {
		t.Error("a claim that wants no class got one")
	}
	protect, _ := plugin(t, "StorageObjectInUseProtection")
	check(t, judge(t, protect, request(admission.Create, "", c, nil)), "")
	if len(c.Finalizers) != 1 || c.Finalizers[0] != "kubernetes.io/pvc-protection" {
		t.Errorf("got %v", c.Finalizers)
	}
	resize, _ := plugin(t, "PersistentVolumeClaimResize", objects...)
	check(t, judge(t, resize, request(admission.Update, "", claim(ptr.To("b"), "2Gi", corev1.ClaimBound), claim(ptr.To("b"), "1Gi", corev1.ClaimBound))), "")
	check(t, judge(t, resize, request(admission.Update, "", claim(ptr.To("b"), "2Gi", ""), claim(ptr.To("b"), "1Gi", corev1.ClaimPending))), "Only bound persistent volume claims can be expanded")
	check(t, judge(t, resize, request(admission.Update, "", claim(ptr.To("a"), "2Gi", ""), claim(ptr.To("a"), "1Gi", corev1.ClaimBound))), "the storageclass that provisions the pvc must support resize")
}

func TestRuntimeClass(t *testing.T) {
	class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "vm"}, Overhead: &nodev1.Overhead{PodFixed: quantities("cpu", "100m")},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "vm", Operator: corev1.TolerationOpExists}}}}
	p, _ := plugin(t, "RuntimeClass", class)
	vm := func(p *corev1.Pod) { p.Spec.RuntimeClassName = ptr.To("vm") }
	got := pod("p", vm, func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: "vm", Operator: corev1.TolerationOpEqual, Value: "x"}}
	})
	check(t, judge(t, p, request(admission.Create, "", got, nil)), "")
	if got.Spec.Overhead.Cpu().String() != "100m" || got.Spec.NodeSelector["vm"] != "yes" || len(got.Spec.Tolerations) != 1 {
		t.Errorf("got %+v", got.Spec)
	}
	check(t, judge(t, p, request(admission.Create, "", pod("p", func(p *corev1.Pod) { p.Spec.RuntimeClassName = ptr.To("x") }), nil)), `pod rejected: RuntimeClass "x" not found`)
	check(t, judge(t, p, request(admission.Create, "", pod("p", vm, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"vm": "no"} }), nil)), "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no")
	check(t, judge(t, p, request(admission.Create, "", pod("p", func(p *corev1.Pod) { p.Spec.Overhead = quantities("cpu", "1") }), nil)), "Pod Overhead set without corresponding RuntimeClass defined Overhead")
}

func TestPodTopologyLabels(t *testing.T) {
	p, _ := plugin(t, "PodTopologyLabels", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelTopologyZone: "z", "x": "y"}}})
	b := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
	r := request(admission.Create, "binding", pod("p"), nil)
	r.Object = b
	check(t, judge(t, p, r), "")
	if len(b.Labels) != 1 || b.Labels[corev1.LabelTopologyZone] != "z" {
		t.Errorf("got %v", b.Labels)
	}
}

func quotaOf(hard, used corev1.ResourceList) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q", UID: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}, Status: corev1.ResourceQuotaStatus{Hard: hard, Used: used}}
}

func TestResourceQuotaRefuses(t *testing.T) {
	hard := quantities("pods", "2", "requests.cpu", "1")
	asking := func(cpu string) *corev1.Pod {
		return pod("p", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = quantities("cpu", cpu) })
	}
	for _, c := range []struct {
		name string
		used corev1.ResourceList
		pod  *corev1.Pod
		err  string
	}{
		{"what fits passes", quantities("pods", "1", "requests.cpu", "500m"), asking("500m"), ""},
		{"what doesn't is refused", quantities("pods", "1", "requests.cpu", "500m"), asking("600m"), `pods "p" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1`},
		{"a pod must say what it requests", quantities("pods", "0", "requests.cpu", "0"), pod("p"), "failed quota: q: must specify requests.cpu for: c"},
		{"a quota must be counted first", nil, asking("1m"), "status unknown for quota: q, resources: pods,requests.cpu"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := plugin(t, "ResourceQuota", quotaOf(hard, c.used))
			check(t, judge(t, p, request(admission.Create, "", c.pod, nil)), c.err)
		})
	}
}

func TestConcurrentCreationsNeverExceedAQuota(t *testing.T) {
	hard := quantities("count/configmaps", "10")
	p, c := plugin(t, "ResourceQuota", quotaOf(hard, quantities("count/configmaps", "0")))
	finisher := p.(admission.Finisher)
	var wg sync.WaitGroup
	var mu sync.Mutex
	admitted, failed := 0, 0
	for i := range 50 {
		wg.Go(func() {
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("c%d", i)}}
			r := request(admission.Create, "", cm, nil)
			err := p.(admission.Validator).Validate(context.Background(), r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				return
			}
			admitted++
			finisher.Finish(context.Background(), r, true)
		})
	}
	wg.Wait()
	q, err := resourceQuotas.Get(t.Context(), c, "ns", "q")
	used := q.Status.Used["count/configmaps"]
	if err != nil || admitted != 10 || failed != 40 || used.Value() != 10 {
		t.Errorf("admitted %d, refused %d, used %s, %v", admitted, failed, used.String(), err)
	}
}

func TestAFailedRequestGivesItsReservationBack(t *testing.T) {
	p, c := plugin(t, "ResourceQuota", quotaOf(quantities("secrets", "1"), quantities("secrets", "0")))
	for range 3 {
		r := request(admission.Create, "", &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}}, nil)
		check(t, judge(t, p, r), "")
		p.(admission.Finisher).Finish(t.Context(), r, false)
	}
	q, _ := resourceQuotas.Get(t.Context(), c, "ns", "q")
	if used := q.Status.Used["secrets"]; used.Value() != 0 {
		t.Errorf("used %s", used.String())
	}
	r := request(admission.Create, "", &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}}, nil)
	r.DryRun = true
	before := len(c.Writes())
	check(t, judge(t, p, r), "")
	if len(c.Writes()) != before {
		t.Error("a dry run reserved")
	}
}

func TestPodResizeValidator(t *testing.T) {
	p, _ := plugin(t, "PodResizeValidator", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Allocatable: quantities("cpu", "1", "memory", "1Gi")}})
	sized := func(cpu string, generation int64) *corev1.Pod {
		return pod("p", func(p *corev1.Pod) {
			p.Spec.NodeName, p.Generation = "n", generation
			p.Spec.Containers[0].Resources.Requests = quantities("cpu", cpu)
		})
	}
	check(t, judge(t, p, request(admission.Update, "resize", sized("1", 2), sized("500m", 1))), "")
	check(t, judge(t, p, request(admission.Update, "resize", sized("2", 2), sized("500m", 1))), `pods "p" is forbidden: node didn't have enough allocatable resources: cpu, requested: 2000, allocatable: 1000`)
	check(t, judge(t, p, request(admission.Update, "resize", sized("2", 1), sized("2", 1))), "")
}
