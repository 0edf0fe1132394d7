package plugins

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
)

func TestAlwaysPullImages(t *testing.T) {
	p, _ := plugin(t, "AlwaysPullImages")
	with := func(image string) *corev1.Pod {
		return pod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].Image = image
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", ImagePullPolicy: corev1.PullNever}}
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "v"}}}}
		})
	}
	created := with("a")
	check(t, judge(t, p, request(admission.Create, "", created, nil)), "")
	if s := created.Spec; s.Containers[0].ImagePullPolicy != corev1.PullAlways || s.InitContainers[0].ImagePullPolicy != corev1.PullAlways || s.Volumes[0].Image.PullPolicy != corev1.PullAlways {
		t.Errorf("got %+v", s)
	}
	same := with("a")
	check(t, judge(t, p, request(admission.Update, "", same, with("a"))), "")
	if same.Spec.InitContainers[0].ImagePullPolicy != corev1.PullNever {
		t.Error("an update without new images is changed")
	}
	changed := with("a")
	check(t, AlwaysPullImages{}.Validate(t.Context(), request(admission.Create, "", changed, nil)), `spec.initContainers[0].imagePullPolicy: Unsupported value: "Never": supported values: "Always"`)
}

func TestDenyServiceExternalIPs(t *testing.T) {
	p, _ := plugin(t, "DenyServiceExternalIPs")
	with := func(ips ...string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Spec: corev1.ServiceSpec{ExternalIPs: ips}}
	}
	const refusal = "Use of external IPs is denied by admission control"
	check(t, judge(t, p, request(admission.Create, "", with(), nil)), "")
	check(t, judge(t, p, request(admission.Create, "", with("1.2.3.4"), nil)), refusal)
	check(t, judge(t, p, request(admission.Update, "", with("1.2.3.4"), with("1.2.3.4", "1.2.3.5"))), "")
	check(t, judge(t, p, request(admission.Update, "", with("1.2.3.6"), with("1.2.3.4"))), refusal)
}

func TestLimitPodHardAntiAffinityTopology(t *testing.T) {
	p, _ := plugin(t, "LimitPodHardAntiAffinityTopology")
	by := func(key string) *corev1.Pod {
		return pod("p", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: key}}}}
		})
	}
	check(t, judge(t, p, request(admission.Create, "", by("kubernetes.io/hostname"), nil)), "")
	check(t, judge(t, p, request(admission.Create, "", by("zone"), nil)), "has TopologyKey zone but only key kubernetes.io/hostname is allowed")
}

func TestExtendedResourceToleration(t *testing.T) {
	p, _ := plugin(t, "ExtendedResourceToleration")
	asking := pod("p", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = quantities("b.com/gpu", "1", "a.com/gpu", "1", "cpu", "1")
	})
	check(t, judge(t, p, request(admission.Create, "", asking, nil)), "")
	check(t, judge(t, p, request(admission.Update, "", asking, asking)), "")
	if got := asking.Spec.Tolerations; len(got) != 2 || got[0].Key != "a.com/gpu" || got[1].Key != "b.com/gpu" || got[0].Effect != corev1.TaintEffectNoSchedule {
		t.Errorf("got %+v", got)
	}
}

func TestNamespacesAreMadeOrMustExist(t *testing.T) {
	p, c := plugin(t, "NamespaceAutoProvision")
	check(t, judge(t, p, request(admission.Create, "", pod("p", func(p *corev1.Pod) { p.Namespace = "made" }), nil)), "")
	if _, err := client.Namespaces.Get(t.Context(), c, "", "made"); err != nil {
		t.Error(err)
	}
	p, _ = plugin(t, "NamespaceExists")
	check(t, judge(t, p, request(admission.Delete, "", nil, pod("p", func(p *corev1.Pod) { p.Namespace = "gone" }))), `namespaces "gone" not found`)
}

const eventLimits = `
apiVersion: eventratelimit.admission.k8s.io/v1alpha1
kind: Configuration
limits:
- {type: User, qps: 1, burst: 2}
- {type: SourceAndObject, qps: 1, burst: 1, cacheSize: 10}
`

func TestEventRateLimit(t *testing.T) {
	now := time.Now()
	p, err := newEventRateLimit([]byte(eventLimits), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	of := func(user, object string) *admission.Request {
		e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "e"}, InvolvedObject: corev1.ObjectReference{Name: object}}
		return &admission.Request{Operation: admission.Create, Kind: corev1.SchemeGroupVersion.WithKind("Event"), Namespace: "ns", Object: e, User: api.UserInfo{Name: user}}
	}
	check(t, judge(t, p, of("a", "x")), "")
	check(t, judge(t, p, of("a", "x")), "limit reached on type SourceAndObject for key x")
	check(t, judge(t, p, of("a", "y")), "limit reached on type User for key a")
	check(t, judge(t, p, of("b", "z")), "")
	dry := of("a", "x")
	dry.DryRun = true
	check(t, judge(t, p, dry), "")
	now = now.Add(time.Second)
	check(t, judge(t, p, of("a", "x")), "")
	for config, refusal := range map[string]string{
		"": "is  , not",
		"apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration": "limits: Invalid value",
		eventLimits + "- {type: Foo, qps: 0, burst: 0, cacheSize: -1}":              `limits[2].type: Unsupported value: "Foo"`,
		eventLimits + "foo: bar": "unknown field",
	} {
		_, err := newEventRateLimit([]byte(config), time.Now)
		check(t, err, refusal)
	}
}

func TestPodSecurityHasDefaultsAndExemptions(t *testing.T) {
	config := "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\ndefaults: {enforce: baseline}\nexemptions: {namespaces: [free], usernames: [root]}\n"
	v, c := viewsOf(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "free"}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
	p, err := newPodSecurity(c, v, []byte(config), nil)
	if err != nil {
		t.Fatal(err)
	}
	in := func(ns, user string) *admission.Request {
		r := request(admission.Create, "", pod("p", func(p *corev1.Pod) { p.Namespace, p.Spec.HostNetwork = ns, true }), nil)
		r.Namespace, r.User.Name = ns, user
		return r
	}
	check(t, judge(t, p, in("ns", "alice")), `violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`)
	check(t, judge(t, p, in("free", "alice")), "")
	check(t, judge(t, p, in("ns", "root")), "")
	if _, err := newPodSecurity(c, v, []byte("kind: Foo"), nil); err == nil {
		t.Error("nonsense is taken for a configuration")
	}
}
