package devices

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"zone": "a"}}}

// inventory has a class "any" of all devices of driver d, and a pool of one slice on the node.
func inventory(devices ...resourcev1.Device) *Inventory {
	inv := New()
	inv.SetClass("any", &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "any"}, Spec: resourcev1.DeviceClassSpec{
		Selectors: []resourcev1.DeviceSelector{selector(`device.driver == "d"`)}}})
	inv.SetSlice("s", slicedTo(1, devices...))
	return inv
}

func slicedTo(count int64, devices ...resourcev1.Device) *resourcev1.ResourceSlice {
	return &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourcev1.ResourceSliceSpec{
		Driver: "d", Pool: resourcev1.ResourcePool{Name: "p", Generation: 1, ResourceSliceCount: count}, NodeName: new("n"), Devices: devices}}
}

func selector(expression string) resourcev1.DeviceSelector {
	return resourcev1.DeviceSelector{CEL: &resourcev1.CELDeviceSelector{Expression: expression}}
}

// device has attributes "model" and "id".
func dev(name, model string, edit ...func(*resourcev1.Device)) resourcev1.Device {
	d := resourcev1.Device{Name: name, Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"model": {StringValue: &model}, "id": {StringValue: &name}}}
	for _, e := range edit {
		e(&d)
	}
	return d
}

func tainted(d *resourcev1.Device) {
	d.Taints = []resourcev1.DeviceTaint{{Key: "bad", Effect: resourcev1.DeviceTaintEffectNoSchedule}}
}

func shared(capacity string) func(*resourcev1.Device) {
	return func(d *resourcev1.Device) {
		d.AllowMultipleAllocations = new(true)
		d.Capacity = map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"memory": {Value: resource.MustParse(capacity)}}
	}
}

func consuming(n string) func(*resourcev1.Device) {
	return func(d *resourcev1.Device) {
		d.ConsumesCounters = []resourcev1.DeviceCounterConsumption{{CounterSet: "set", Counters: map[string]resourcev1.Counter{"cores": {Value: resource.MustParse(n)}}}}
	}
}

func exactly(count int64, edit ...func(*resourcev1.ExactDeviceRequest)) resourcev1.DeviceRequest {
	e := &resourcev1.ExactDeviceRequest{DeviceClassName: "any", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: count}
	for _, f := range edit {
		f(e)
	}
	return resourcev1.DeviceRequest{Name: "r", Exactly: e}
}

func claimOf(name string, requests ...resourcev1.DeviceRequest) *resourcev1.ResourceClaim {
	return &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: requests}}}
}

func constrained(claim *resourcev1.ResourceClaim, c resourcev1.DeviceConstraint) *resourcev1.ResourceClaim {
	claim.Spec.Devices.Constraints = append(claim.Spec.Devices.Constraints, c)
	return claim
}

// given lists what was found for the claims, by request: "r=a r=b; r=c"; "none" if nothing was.
func given(t *testing.T, inv *Inventory, claims ...*resourcev1.ResourceClaim) string {
	t.Helper()
	q, err := inv.Ask(claims)
	if err != nil {
		return err.Error()
	}
	results, err := q.On(node)
	if err != nil {
		return err.Error()
	}
	if results == nil {
		return "none"
	}
	var parts []string
	for _, r := range results {
		var list []string
		for _, d := range r.Devices.Results {
			list = append(list, d.Request+"="+d.Device)
		}
		parts = append(parts, strings.Join(list, " "))
	}
	return strings.Join(parts, "; ")
}

// take allocates a device for good.
func take(inv *Inventory, claim string, results ...resourcev1.DeviceRequestAllocationResult) {
	c := claimOf(claim)
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: results}}
	inv.SetClaim("ns/"+claim, c)
}

func TestWhichDevicesAClaimGets(t *testing.T) {
	model := resourcev1.FullyQualifiedName("d/model")
	all := func(e *resourcev1.ExactDeviceRequest) {
		e.AllocationMode, e.Count = resourcev1.DeviceAllocationModeAll, 0
	}
	admin := func(e *resourcev1.ExactDeviceRequest) { e.AdminAccess = new(true) }
	tolerant := func(e *resourcev1.ExactDeviceRequest) {
		e.Tolerations = []resourcev1.DeviceToleration{{Key: "bad", Operator: resourcev1.DeviceTolerationOpExists}}
	}
	only := func(expression string) func(*resourcev1.ExactDeviceRequest) {
		return func(e *resourcev1.ExactDeviceRequest) {
			e.Selectors = []resourcev1.DeviceSelector{selector(expression)}
		}
	}
	memory := func(q string) func(*resourcev1.ExactDeviceRequest) {
		return func(e *resourcev1.ExactDeviceRequest) {
			e.Capacity = &resourcev1.CapacityRequirements{Requests: map[resourcev1.QualifiedName]resource.Quantity{"memory": resource.MustParse(q)}}
		}
	}
	alternatives := resourcev1.DeviceRequest{Name: "r", FirstAvailable: []resourcev1.DeviceSubRequest{
		{Name: "best", DeviceClassName: "any", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 3},
		{Name: "good", DeviceClassName: "any", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 2},
	}}
	two := []resourcev1.Device{dev("a", "x"), dev("b", "y")}
	three := []resourcev1.Device{dev("a", "x"), dev("b", "y"), dev("c", "y")}
	used := resourcev1.DeviceRequestAllocationResult{Driver: "d", Pool: "p", Device: "a"}
	for name, test := range map[string]struct {
		devices []resourcev1.Device
		used    []resourcev1.DeviceRequestAllocationResult
		claims  []*resourcev1.ResourceClaim
		want    string
	}{
		"the first that it selects":           {two, nil, []*resourcev1.ResourceClaim{claimOf("c", exactly(1, only(`device.attributes["d"].model == "y"`)))}, "r=b"},
		"none that another has":               {two, []resourcev1.DeviceRequestAllocationResult{used}, []*resourcev1.ResourceClaim{claimOf("c", exactly(1))}, "r=b"},
		"none if there aren't enough":         {two, nil, []*resourcev1.ResourceClaim{claimOf("c", exactly(3))}, "none"},
		"one that another has, to administer": {two, []resourcev1.DeviceRequestAllocationResult{used}, []*resourcev1.ResourceClaim{claimOf("c", exactly(1, admin))}, "r=a"},
		"all of them":                         {two, nil, []*resourcev1.ResourceClaim{claimOf("c", exactly(0, all))}, "r=a r=b"},
		"not all if one is in use":            {two, []resourcev1.DeviceRequestAllocationResult{used}, []*resourcev1.ResourceClaim{claimOf("c", exactly(0, all))}, "none"},
		"several claims share what there is":  {two, nil, []*resourcev1.ResourceClaim{claimOf("c", exactly(1)), claimOf("e", exactly(1))}, "r=a; r=b"},
		"those that are alike":                {three, nil, []*resourcev1.ResourceClaim{constrained(claimOf("c", exactly(2)), resourcev1.DeviceConstraint{MatchAttribute: &model})}, "r=b r=c"},
		"those that are not alike":            {[]resourcev1.Device{dev("a", "x"), dev("b", "x"), dev("c", "y")}, nil, []*resourcev1.ResourceClaim{constrained(claimOf("c", exactly(2)), resourcev1.DeviceConstraint{DistinctAttribute: &model})}, "r=a r=c"},
		"the best alternative":                {three, nil, []*resourcev1.ResourceClaim{claimOf("c", alternatives)}, "r/best=a r/best=b r/best=c"},
		"the next alternative":                {two, nil, []*resourcev1.ResourceClaim{claimOf("c", alternatives)}, "r/good=a r/good=b"},
		"none that is tainted":                {[]resourcev1.Device{dev("a", "x", tainted), dev("b", "x")}, nil, []*resourcev1.ResourceClaim{claimOf("c", exactly(1))}, "r=b"},
		"a tainted one that it tolerates":     {[]resourcev1.Device{dev("a", "x", tainted), dev("b", "x")}, nil, []*resourcev1.ResourceClaim{claimOf("c", exactly(1, tolerant))}, "r=a"},
		"a share of a device":                 {[]resourcev1.Device{dev("a", "x", shared("10Gi"))}, nil, []*resourcev1.ResourceClaim{claimOf("c", exactly(1, memory("6Gi"))), claimOf("e", exactly(1, memory("4Gi")))}, "r=a; r=a"},
		"no share that is too large":          {[]resourcev1.Device{dev("a", "x", shared("10Gi"))}, nil, []*resourcev1.ResourceClaim{claimOf("c", exactly(1, memory("6Gi"))), claimOf("e", exactly(1, memory("5Gi")))}, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := inventory(test.devices...)
			if test.used != nil {
				take(inv, "other", test.used...)
			}
			if got := given(t, inv, test.claims...); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestDevicesThatShareCountersDontUseMoreThanThereIs(t *testing.T) {
	inv := inventory(dev("whole", "x", consuming("8")), dev("half", "x", consuming("4")), dev("other-half", "x", consuming("4")))
	devices := slicedTo(2, inv.slices["s"].api.Spec.Devices...)
	counters := slicedTo(2)
	counters.Name = "counters"
	counters.Spec.SharedCounters = []resourcev1.CounterSet{{Name: "set", Counters: map[string]resourcev1.Counter{"cores": {Value: resource.MustParse("8")}}}}
	inv.SetSlice("s", devices)
	if got := given(t, inv, claimOf("c", exactly(1))); got != "none" {
		t.Errorf("while a slice of the pool is missing: got %s", got)
	}
	inv.SetSlice("counters", counters)
	if got := given(t, inv, claimOf("c", exactly(2))); got != "r=half r=other-half" {
		t.Errorf("two devices: got %s", got)
	}
	take(inv, "other", resourcev1.DeviceRequestAllocationResult{Driver: "d", Pool: "p", Device: "half"})
	if got := given(t, inv, claimOf("c", exactly(1))); got != "r=other-half" {
		t.Errorf("beside a half that is taken: got %s", got)
	}
	if !inv.SetClaim("ns/other", nil) {
		t.Error("the devices of a claim that goes aren't freed")
	}
	if got := given(t, inv, claimOf("c", exactly(1))); got != "r=whole" {
		t.Errorf("when all is free again: got %s", got)
	}
}

func TestWhatWasDecidedCountsUntilTheAPITellsOfIt(t *testing.T) {
	inv := inventory(dev("a", "x"))
	claim := claimOf("c", exactly(1))
	inv.SetClaim("ns/c", claim)
	decided := claim.DeepCopy()
	decided.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Driver: "d", Pool: "p", Device: "a"}}}}
	revert := inv.Assume("ns/c", decided)
	if got := given(t, inv, claimOf("e", exactly(1))); got != "none" || !inv.Pending("ns/c") {
		t.Errorf("after the decision: got %s", got)
	}
	inv.SetClaim("ns/c", claim.DeepCopy())
	if got := given(t, inv, claimOf("e", exactly(1))); got != "none" {
		t.Errorf("after an older version of the claim: got %s", got)
	}
	revert()
	if got := given(t, inv, claimOf("e", exactly(1))); got != "r=a" || inv.Pending("ns/c") {
		t.Errorf("after the decision was taken back: got %s", got)
	}
	inv.Assume("ns/c", decided)
	inv.SetClaim("ns/c", decided)
	if inv.Pending("ns/c") || inv.usage.exclusive[ID{"d", "p", "a"}] != 1 {
		t.Error("what the API tells is counted beside what was assumed")
	}
}

func TestAnExpressionIsEvaluatedOnceForADevice(t *testing.T) {
	inv := inventory(dev("a", "x"), dev("b", "x"))
	given(t, inv, claimOf("c", exactly(2)))
	d := inv.slices["s"].devices[0]
	d.answers[`device.driver == "d"`] = answer{err: errors.New("asked before")}
	if got := given(t, inv, claimOf("c", exactly(1))); !strings.HasSuffix(got, "asked before") {
		t.Errorf("got %s", got)
	}
}

func TestAClaimWithASelectorThatFailsSaysSo(t *testing.T) {
	inv := inventory(dev("a", "x"))
	request := exactly(1, func(e *resourcev1.ExactDeviceRequest) {
		e.Selectors = []resourcev1.DeviceSelector{selector(`device.attributes["d"].nothing == "x"`)}
	})
	if got := given(t, inv, claimOf("c", request)); !strings.HasPrefix(got, "claim ns/c: selector #0: CEL runtime error:") {
		t.Errorf("got %s", got)
	}
}

func TestDevicesOfSeveralNodesSayWhereTheyCanBeUsed(t *testing.T) {
	inv := inventory()
	s := slicedTo(1, dev("a", "x"))
	s.Spec.NodeName = nil
	s.Spec.NodeSelector = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}}}}}
	inv.SetSlice("s", s)
	q, err := inv.Ask([]*resourcev1.ResourceClaim{claimOf("c", exactly(1))})
	if err != nil {
		t.Fatal(err)
	}
	results, err := q.On(node)
	if err != nil || len(results) != 1 || results[0].NodeSelector == nil || results[0].NodeSelector.NodeSelectorTerms[0].MatchExpressions[0].Key != "zone" {
		t.Errorf("got %+v, %v", results, err)
	}
	if results, err := q.On(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}}); results != nil || err != nil {
		t.Errorf("elsewhere: got %+v, %v", results, err)
	}
}

func TestAmountsAreRoundedAsTheDeviceWantsThem(t *testing.T) {
	q := resource.MustParse
	ranged := &resourcev1.CapacityRequestPolicy{Default: new(q("2")), ValidRange: &resourcev1.CapacityRequestPolicyRange{Min: new(q("2")), Max: new(q("8")), Step: new(q("2"))}}
	listed := &resourcev1.CapacityRequestPolicy{Default: new(q("1")), ValidValues: []resource.Quantity{q("1"), q("4")}}
	for name, test := range map[string]struct {
		policy *resourcev1.CapacityRequestPolicy
		asked  string
		want   string // "" is not to be had
	}{
		"nothing asked is the default":  {ranged, "", "2"},
		"too little is the least":       {ranged, "1", "2"},
		"up to the next step":           {ranged, "3", "4"},
		"more than the most is refused": {ranged, "9", ""},
		"up to the next value":          {listed, "2", "4"},
		"beyond all values is refused":  {listed, "5", ""},
		"without a policy as it is":     {nil, "3", "3"},
		"without either all of it":      {nil, "", "16"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked *resourcev1.CapacityRequirements
			if test.asked != "" {
				asked = &resourcev1.CapacityRequirements{Requests: map[resourcev1.QualifiedName]resource.Quantity{"m": q(test.asked)}}
			}
			got, ok := consumption(asked, map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"m": {Value: q("16"), RequestPolicy: test.policy}})
			amount := got["m"]
			if ok != (test.want != "") || ok && amount.Cmp(q(test.want)) != 0 {
				t.Errorf("got %s, %t; want %q", amount.String(), ok, test.want)
			}
		})
	}
}

func BenchmarkAQuestionAboutANode(b *testing.B) {
	var devices []resourcev1.Device
	for i := range 32 {
		devices = append(devices, dev(fmt.Sprintf("d%02d", i), "x"))
	}
	inv := inventory(devices...)
	claims := []*resourcev1.ResourceClaim{claimOf("c", exactly(4))}
	q, err := inv.Ask(slices.Clone(claims))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if r, err := q.On(node); err != nil || r == nil {
			b.Fatal(r, err)
		}
	}
}
