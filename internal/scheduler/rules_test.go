package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"
)

func zone(name string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = name }
}
func labelled(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"app": value} }
}
func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func appSelector(value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": value}}
}

func spreadBy(key string, skew int32, hard bool) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := corev1.TopologySpreadConstraint{TopologyKey: key, MaxSkew: skew, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: appSelector("a")}
		if hard {
			c.WhenUnsatisfiable = corev1.DoNotSchedule
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
}

func apartFrom(value, key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: appSelector(value)}}}}
	}
}

func near(value, key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: appSelector(value)}}}}
	}
}

func preferring(value, key string, weight int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
			{Weight: weight, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: appSelector(value)}}}}}
	}
}

func TestRulesAboutOtherPods(t *testing.T) {
	zones := []*corev1.Node{testNode("a1", "8", "8Gi", zone("a")), testNode("a2", "8", "8Gi", zone("a")), testNode("b1", "8", "8Gi", zone("b"))}
	minDomains := func(n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.TopologySpreadConstraints[0].MinDomains = &n }
	}
	tests := []struct {
		name   string
		nodes  []*corev1.Node
		there  []*corev1.Pod
		pod    *corev1.Pod
		want   []string // one of these nodes
		reason string   // or this, for all of them
	}{
		{"a_hard_constraint_fills_the_emptier_zone", zones, []*corev1.Pod{testPod("x", "", "", labelled("a"), on("a1"))},
			testPod("p", "", "", labelled("a"), spreadBy(corev1.LabelTopologyZone, 1, true)), []string{"b1"}, ""},
		{"pods_that_are_not_selected_do_not_count", zones[1:], []*corev1.Pod{testPod("x", "", "", labelled("z"), on("b1"))},
			testPod("p", "", "", labelled("a"), spreadBy(corev1.LabelTopologyZone, 1, true)), []string{"a2", "b1"}, ""},
		{"too_few_domains_count_as_an_empty_one", zones, []*corev1.Pod{testPod("x", "", "", labelled("a"), on("a1")), testPod("y", "", "", labelled("a"), on("b1"))},
			testPod("p", "", "", labelled("a"), spreadBy(corev1.LabelTopologyZone, 1, true), minDomains(3)), nil, "node(s) didn't match pod topology spread constraints"},
		{"a_node_without_the_label_is_no_place", []*corev1.Node{testNode("c", "1", "1Gi")}, nil,
			testPod("p", "", "", labelled("a"), spreadBy(corev1.LabelTopologyZone, 1, true)), nil, "node(s) didn't match pod topology spread constraints (missing required label)"},
		{"a_soft_constraint_prefers_the_emptier_zone", zones, []*corev1.Pod{testPod("x", "", "", labelled("a"), on("a1"))},
			testPod("p", "", "", labelled("a"), spreadBy(corev1.LabelTopologyZone, 1, false)), []string{"b1"}, ""},
		{"anti_affinity_keeps_pods_apart", zones, []*corev1.Pod{testPod("x", "", "", labelled("a"), on("a1"))},
			testPod("p", "", "", apartFrom("a", corev1.LabelTopologyZone)), []string{"b1"}, ""},
		{"anti_affinity_that_cannot_be_had", zones[:2], []*corev1.Pod{testPod("x", "", "", labelled("a"), on("a1"))},
			testPod("p", "", "", apartFrom("a", corev1.LabelTopologyZone)), nil, "node(s) didn't match pod anti-affinity rules"},
		{"those_that_are_there_keep_others_away", zones[:2], []*corev1.Pod{testPod("x", "", "", apartFrom("a", corev1.LabelTopologyZone), on("a1"))},
			testPod("p", "", "", labelled("a")), nil, "node(s) didn't satisfy existing pods anti-affinity rules"},
		{"affinity_brings_pods_together", zones, []*corev1.Pod{testPod("x", "", "", labelled("a"), on("b1"))},
			testPod("p", "", "", near("a", corev1.LabelTopologyZone)), []string{"b1"}, ""},
		{"the_first_of_its_kind_may_begin", zones, nil, testPod("p", "", "", labelled("a"), near("a", corev1.LabelTopologyZone)), []string{"a1", "a2", "b1"}, ""},
		{"one_that_is_not_of_the_kind_may_not", zones, nil, testPod("p", "", "", labelled("z"), near("a", corev1.LabelTopologyZone)), nil, "node(s) didn't match pod affinity rules"},
		{"a_preference_of_its_own_decides_among_equals", zones, []*corev1.Pod{testPod("x", "", "", labelled("a"), on("b1"))},
			testPod("p", "", "", preferring("a", corev1.LabelTopologyZone, 100)), []string{"b1"}, ""},
		{"so_does_one_of_a_pod_that_is_there", zones, []*corev1.Pod{testPod("x", "", "", preferring("a", corev1.LabelTopologyZone, 100), on("b1"))},
			testPod("p", "", "", labelled("a")), []string{"b1"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newCore(DefaultName)
			for _, n := range test.nodes {
				s.setNode(n, start)
			}
			for _, p := range test.there {
				s.setPod(p, start)
			}
			s.setPod(test.pod, start)
			d := mustDecide(t, s, start)
			if test.reason == "" && !slices.Contains(test.want, d.node) {
				t.Errorf("got node %q, want one of %v: %s", d.node, test.want, d.message)
			}
			if want := fmt.Sprintf("0/%d nodes are available: %d %s.", len(test.nodes), len(test.nodes), test.reason); test.reason != "" && !strings.HasPrefix(d.message, want) {
				t.Errorf("got %q, want %q", d.message, want)
			}
		})
	}
}

func TestPodsOfAServiceAreSpreadThoughNobodySaidSo(t *testing.T) {
	s := newCore(DefaultName)
	for i := range 6 {
		s.setNode(testNode(fmt.Sprint("n", i), "64", "64Gi", zone(fmt.Sprint("z", i%3))), start)
	}
	s.cluster.setService("ns", "web", map[string]string{"app": "a"})
	perNode := map[string]int{}
	for i := range 12 {
		s.setPod(testPod(fmt.Sprint("p", i), "", "", labelled("a")), start)
		perNode[mustDecide(t, s, start).node]++
	}
	for name, n := range perNode {
		if n != 2 {
			t.Errorf("%s has %d of 12 pods on 6 nodes", name, n)
		}
	}
}

func TestPreemptionBreaksAsFewBudgetsAsItCan(t *testing.T) {
	s := newCore(DefaultName)
	s.setNode(testNode("a", "1", "4Gi"), start)
	s.setNode(testNode("b", "1", "4Gi"), start)
	s.setPod(testPod("guarded", "1", "", priority(1), labelled("a"), on("a")), start)
	s.setPod(testPod("free", "1", "", priority(5), labelled("b"), on("b")), start)
	s.setBudget("ns", "budget", &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "budget"}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: appSelector("a")}})
	s.setPod(testPod("p", "1", "", priority(10)), start)
	if d := mustDecide(t, s, start); d.nominate != "b" {
		t.Errorf("nominated %q though only the pod on b may be disrupted", d.nominate)
	}
}

func TestNominations(t *testing.T) {
	begin := func(t *testing.T) *core {
		s := newCore(DefaultName)
		s.setNode(testNode("a", "1", "4Gi"), start)
		s.setPod(testPod("low", "1", "", priority(1), on("a")), start)
		s.setPod(testPod("mid", "1", "", priority(5)), start)
		if d := mustDecide(t, s, start); d.nominate != "a" {
			t.Fatalf("mid was not nominated: %s", d.message)
		}
		return s
	}
	t.Run("a_preemptor_asks_for_no_more_while_its_victims_leave", func(t *testing.T) {
		s := begin(t)
		leaving := testPod("low", "1", "", priority(1), on("a"))
		leaving.DeletionTimestamp = &metav1.Time{Time: start}
		leaving.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler}}
		s.setPod(leaving, start)
		s.setNode(testNode("b", "500m", "1Gi"), start)
		d := mustDecide(t, s, start.Add(2*time.Second))
		if !d.keepNomination || len(d.victims) > 0 || !strings.HasSuffix(d.message, "preemption: not eligible due to a terminating pod on the nominated node.") {
			t.Errorf("%d victims: %s", len(d.victims), d.message)
		}
	})
	t.Run("a_higher_priority_takes_the_room_that_others_wait_for", func(t *testing.T) {
		s := begin(t)
		s.removePod("low", start)
		s.setPod(testPod("high", "1", "", priority(9)), start)
		if d := mustDecide(t, s, start.Add(time.Millisecond)); d.pod.pod.Name != "high" || d.node != "a" {
			t.Errorf("%s got %q: %s", d.pod.pod.Name, d.node, d.message)
		}
	})
	t.Run("one_that_is_outbid_is_told", func(t *testing.T) {
		s := begin(t)
		s.setPod(testPod("high", "1", "", priority(9)), start)
		d := mustDecide(t, s, start.Add(time.Millisecond))
		if d.nominate != "a" || len(d.outbid) != 1 || d.outbid[0].pod.Name != "mid" {
			t.Errorf("nominated %q, outbid %d: %s", d.nominate, len(d.outbid), d.message)
		}
	})
}

func claim(name, class, volume string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Annotations: map[string]string{}}}
	c.Spec.StorageClassName, c.Spec.VolumeName = &class, volume
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	if volume != "" {
		c.Annotations[volumehelpers.AnnBindCompleted] = "yes"
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func volumeOn(name, class, node string) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	v.Spec.StorageClassName = class
	v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
	v.Status.Phase = corev1.VolumeAvailable
	v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}}
	return v
}

func using(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}})
	}
}

func TestVolumesDecideWhereAPodGoes(t *testing.T) {
	later, atOnce := storagev1.VolumeBindingWaitForFirstConsumer, storagev1.VolumeBindingImmediate
	single := func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	}
	csi := func(v *corev1.PersistentVolume) *corev1.PersistentVolume {
		v.Spec.NodeAffinity, v.Spec.CSI = nil, &corev1.CSIPersistentVolumeSource{Driver: "csi", VolumeHandle: v.Name}
		return v
	}
	zonal := volumeOn("v", "", "a")
	zonal.Spec.NodeAffinity, zonal.Labels = nil, map[string]string{corev1.LabelTopologyZone: "far"}
	tests := []struct {
		name    string
		claims  []*corev1.PersistentVolumeClaim
		volumes []*corev1.PersistentVolume
		there   *corev1.Pod
		node    string // where it goes
		writes  string // or is prepared for: what is written first
		message string
	}{
		{"no_such_claim", nil, nil, nil, "", "", `0/2 nodes are available: persistentvolumeclaim "c" not found. not found`},
		{"an_immediate_claim_must_be_bound_first", []*corev1.PersistentVolumeClaim{claim("c", "at-once", "")}, nil, nil, "", "",
			"0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"},
		{"a_bound_volume_says_where", []*corev1.PersistentVolumeClaim{claim("c", "", "v")}, []*corev1.PersistentVolume{volumeOn("v", "", "b")}, nil, "b", "", ""},
		{"a_bound_volume_out_of_reach", []*corev1.PersistentVolumeClaim{claim("c", "", "v")}, []*corev1.PersistentVolume{volumeOn("v", "", "z")}, nil, "", "",
			"0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."},
		{"a_volume_that_is_gone", []*corev1.PersistentVolumeClaim{claim("c", "", "v")}, nil, nil, "", "", `0/2 nodes are available: persistentvolume "v" not found.`},
		{"a_waiting_claim_takes_a_volume_that_is_there", []*corev1.PersistentVolumeClaim{claim("c", "local", "")}, []*corev1.PersistentVolume{volumeOn("v", "local", "b")}, nil, "b", "volume v for c", ""},
		{"a_waiting_claim_without_any", []*corev1.PersistentVolumeClaim{claim("c", "local", "")}, nil, nil, "", "", "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."},
		{"a_waiting_claim_is_provisioned_on_its_node", []*corev1.PersistentVolumeClaim{claim("c", "made", "")}, nil, testPod("x", "7", "7Gi", on("a")), "b", "claim c on b", ""},
		{"a_claim_for_one_pod", []*corev1.PersistentVolumeClaim{claim("c", "", "v", single)}, []*corev1.PersistentVolume{volumeOn("v", "", "a")}, testPod("x", "", "", using("c"), on("a")), "", "",
			"0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod."},
		{"a_driver_that_can_have_no_more_on_a", []*corev1.PersistentVolumeClaim{claim("c", "", "v"), claim("d", "", "w")}, []*corev1.PersistentVolume{csi(volumeOn("v", "", "")), csi(volumeOn("w", "", ""))},
			testPod("x", "", "", using("d"), on("a")), "b", "", ""},
		{"a_volume_of_another_zone", []*corev1.PersistentVolumeClaim{claim("c", "", "v")}, []*corev1.PersistentVolume{zonal}, nil, "", "", "0/2 nodes are available: 2 node(s) had no available volume zone."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newCore(DefaultName)
			s.setNode(testNode("a", "8", "8Gi", zone("z")), start)
			s.setNode(testNode("b", "8", "8Gi", zone("z")), start)
			s.setVolumes(start, func(v *volumes) {
				one := int32(1)
				v.classes["at-once"] = &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "at-once"}, VolumeBindingMode: &atOnce}
				v.classes["local"] = &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local"}, VolumeBindingMode: &later, Provisioner: volumehelpers.NotSupportedProvisioner}
				v.classes["made"] = &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "made"}, VolumeBindingMode: &later, Provisioner: "csi"}
				v.csiNodes["a"] = &storagev1.CSINode{Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "csi", Allocatable: &storagev1.VolumeNodeResources{Count: &one}}}}}
				for _, c := range test.claims {
					put(v.claims, claimKey(c.Namespace, c.Name), c)
				}
				for _, o := range test.volumes {
					put(v.volumes, o.Name, o)
				}
			})
			if test.there != nil {
				s.setPod(test.there, start)
			}
			s.setPod(testPod("p", "1", "", using("c")), start)
			d := mustDecide(t, s, start)
			var writes string
			if d.volumes != nil {
				for _, v := range d.volumes.volumes {
					writes += fmt.Sprintf("volume %s for %s", v.Name, v.Spec.ClaimRef.Name)
				}
				for _, c := range d.volumes.claims {
					writes += fmt.Sprintf("claim %s on %s", c.Name, c.Annotations[volumehelpers.AnnSelectedNode])
				}
			}
			if d.node != test.node || writes != test.writes || !strings.HasPrefix(d.message, test.message) {
				t.Errorf("node %q, writes %q, message %q", d.node, writes, d.message)
			}
		})
	}
}

func TestAPodIsBoundWhenItsClaimsAre(t *testing.T) {
	later := storagev1.VolumeBindingWaitForFirstConsumer
	s := newCore(DefaultName)
	s.setNode(testNode("a", "1", "8Gi"), start)
	s.setVolumes(start, func(v *volumes) {
		v.classes["local"] = &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local"}, VolumeBindingMode: &later, Provisioner: volumehelpers.NotSupportedProvisioner}
		v.claims["ns/c"] = claim("c", "local", "")
		v.volumes["v"] = volumeOn("v", "local", "a")
	})
	s.setPod(testPod("p", "1", "", using("c")), start)
	prepared := mustDecide(t, s, start)
	if prepared.volumes == nil {
		t.Fatalf("nothing is prepared: %s", prepared.message)
	}
	s.setVolumes(start, func(v *volumes) { v.volumes["v"] = prepared.volumes.volumes[0] })
	if _, ok := s.next(start); ok {
		t.Error("it is decided though its claim is not bound, and everything has been asked for")
	}
	s.setPod(testPod("thief", "1", ""), start)
	if d := mustDecide(t, s, start); d.node != "" {
		t.Error("another pod took its room")
	}
	s.setVolumes(start, func(v *volumes) { v.claims["ns/c"] = claim("c", "local", "v") })
	if d := mustDecide(t, s, start); d.node != "a" || d.volumes != nil {
		t.Errorf("node %q, message %q", d.node, d.message)
	}
}
